//! JSON decoding for data from peers. Its errors repeat no value.

mod list;
mod mismatch;
mod surrogates;
mod text;
mod tree;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

pub(crate) use self::mismatch::Mismatch;
pub(crate) use self::text::Text;

/// Decodes a `T` from `json`.
///
/// It differs from `serde_json::from_slice` in three ways. The error repeats no value of the JSON. An array decodes as
/// a list or a tuple, never as a struct whose fields are given by position. An unpaired surrogate in a string becomes
/// U+FFFD; JavaScript writes one when it cuts a text.
///
/// ```
/// use serde::Deserialize;
///
/// #[derive(Debug, Deserialize)]
/// struct LogIn { password: String }
///
/// let error = nats_rpc::from_json::<LogIn>(br#"{"password":12345678}"#).unwrap_err();
/// assert_eq!(error.to_string(), "`password`: expected a string, found a number, at line 1 column 20");
/// ```
///
/// # Errors
/// [`DecodeError`] if `json` is not valid JSON, is nested deeper than 128 levels, or does not decode as `T`.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, DecodeError> {
    list::from_json(json).or_else(|error| recover(json, &error))
}

/// Decodes `json` again with each unpaired surrogate replaced, or explains `error`.
///
/// Valid data never reaches this function, so it has no extra cost.
#[cold]
#[inline(never)]
fn recover<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> Result<T, DecodeError> {
    match surrogates::repaired(json) {
        Some(json) => list::from_json(&json).map_err(|error| explain::<T>(&json, &error)),
        None => Err(explain::<T>(json, error)),
    }
}

/// Describes the type mismatch in `json`, by decoding it again without its values.
fn explain<T: DeserializeOwned>(json: &[u8], error: &serde_json::Error) -> DecodeError {
    let mismatch = match error.classify() {
        Category::Data => {
            serde_json::from_slice(json).ok().and_then(|tree| T::deserialize(tree::Node::root(&tree)).err())
        }
        _ => None,
    };
    match (mismatch, error.classify()) {
        (Some(mismatch), _) => DecodeError::new(mismatch.to_string(), error),
        // A tree holds each field once, so it cannot show a duplicate.
        (None, Category::Data) => DecodeError::new("a field is there more than once".to_owned(), error),
        (None, _) => DecodeError::from(error),
    }
}

/// Returns the reason why a value cannot be encoded as JSON. It repeats no value, which an error of the value's type
/// might.
pub(crate) fn unwritable(error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Data => "its type refused it".to_owned(),
        _ => error.to_string(),
    }
}

/// A value of an unexpected type, or malformed JSON.
///
/// The text names the field, the expected type and the position. It repeats no value: a value may be a secret, and the
/// text reaches logs and callers. For the same reason it omits the text of a type's own error, such as one of
/// `#[serde(try_from)]`. A handler that validates a value itself can return a more specific message.
pub struct DecodeError(Box<Inner>);

struct Inner {
    why: String,
    line: usize,
    column: usize,
}

impl DecodeError {
    fn new(why: String, error: &serde_json::Error) -> Self {
        Self(Box::new(Inner { why, line: error.line(), column: error.column() }))
    }

    /// Returns the line in the JSON, from 1; 0 if it is unknown.
    pub fn line(&self) -> usize {
        self.0.line
    }

    /// Returns the column in the JSON in bytes, from 1; 0 if it is unknown.
    pub fn column(&self) -> usize {
        self.0.column
    }
}

impl From<&serde_json::Error> for DecodeError {
    /// Keeps the position and, for malformed JSON, the reason.
    fn from(error: &serde_json::Error) -> Self {
        let why = match error.classify() {
            // The texts of the parser itself are constant.
            Category::Syntax | Category::Eof => {
                let text = error.to_string();
                let place = format!(" at line {} column {}", error.line(), error.column());
                text.strip_suffix(&place).unwrap_or(&text).to_owned()
            }
            Category::Data | Category::Io => "a value is not of the type expected".to_owned(),
        };
        Self::new(why, error)
    }
}

impl From<serde_json::Error> for DecodeError {
    fn from(error: serde_json::Error) -> Self {
        Self::from(&error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { why, line, column } = &*self.0;
        match line {
            0 => f.write_str(why),
            _ => write!(f, "{why}, at line {line} column {column}"),
        }
    }
}

impl fmt::Debug for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DecodeError({:?})", self.to_string())
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests;
