//! Description of a wrong type that does not repeat the value.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// Maximum number of alternatives that an error lists.
const MAX_LISTED: usize = 20;

/// An error of `serde` that contains the names of types and of a type's fields, but no value.
///
/// `serde` passes values to its errors: each method here drops the value and keeps its kind.
#[derive(Debug)]
pub(crate) struct Mismatch {
    why: String,
    /// The steps to the value, the last one first.
    path: Vec<Step>,
}

/// A step from a value into one of its parts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A field that the type has.
    Field(&'static str),
    /// An element of an array, from 0.
    Index(usize),
    /// A key that the peer chose; the error does not repeat it.
    Key,
}

impl Mismatch {
    pub(crate) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), path: Vec::new() }
    }

    /// Returns the same error with `step` added to its path.
    pub(super) fn inside(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// Returns the description, without the position.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("`")?;
            for (depth, step) in self.path.iter().rev().enumerate() {
                match step {
                    Step::Index(index) => write!(f, "[{index}]")?,
                    Step::Field(name) if depth == 0 => f.write_str(name)?,
                    Step::Field(name) => write!(f, ".{name}")?,
                    Step::Key if depth == 0 => f.write_str("*")?,
                    Step::Key => f.write_str(".*")?,
                }
            }
            f.write_str("`: ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for Mismatch {}

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::new("the value is not valid")
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", kind(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found another {}", kind(found).trim_start_matches("a ")))
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found another number of elements"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(format!("missing field `{field}`"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("the field `{field}` is there more than once"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown variant, expected {}", one_of(expected)))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown field, expected {}", one_of(expected)))
    }
}

fn kind(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) => "a number",
        Unexpected::Char(_) | Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "a byte array",
        Unexpected::Unit | Unexpected::Option => "null",
        Unexpected::Seq => "an array",
        Unexpected::Map => "an object",
        _ => "a value of another type",
    }
}

fn one_of(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut listed: Vec<_> = names.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    if names.len() > MAX_LISTED {
        listed.push("…".to_owned());
    }
    match listed.as_slice() {
        [one] => one.clone(),
        several => format!("one of {}", several.join(", ")),
    }
}
