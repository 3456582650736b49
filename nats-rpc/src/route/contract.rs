//! Hashes of a handler's payload and reply, which change when the JSON changes.

#[cfg(feature = "schema")]
mod schema;

use std::marker::PhantomData;

/// The hashes of one handler. A type without a schema has no hash.
///
/// Types have a schema with the feature `schema`, by schemars' `JsonSchema`.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// The hash of its payload.
    pub payload: Option<String>,
    /// The hash of its reply.
    pub answer: Option<String>,
}

impl Contract {
    /// Creates the contract of a handler without any type that has a schema.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the schema of an argument. A handler with two such arguments has one hash of both.
    #[must_use]
    pub fn taken(mut self, hash: Option<String>) -> Self {
        self.payload = match (self.payload, hash) {
            (Some(first), Some(second)) => Some(format!("{first}-{second}")),
            (first, second) => first.or(second),
        };
        self
    }

    /// Adds the schema of the handler's reply.
    #[must_use]
    pub fn answered(self, hash: Option<String>) -> Self {
        Self { answer: hash, ..self }
    }
}

/// Represents a type whose schema is needed; for the macros.
#[doc(hidden)]
pub struct Shape<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Shape<T> {
    #[doc(hidden)]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Shape<T> {
    /// Represents the return type of an async function, which takes its arguments in one tuple.
    pub fn returned_by<A, F: Future<Output = T>>(_: impl FnOnce(A) -> F) -> Self {
        Self::new()
    }
}

/// Selects, by autoref, the schema of a type that has one, and none for any other.
#[doc(hidden)]
pub trait Describe {
    /// Returns the schema of an argument.
    fn taken(&self) -> Option<String> {
        None
    }

    /// Returns the schema of a return value.
    fn answered(&self) -> Option<String> {
        None
    }
}

impl<T: ?Sized> Describe for Shape<T> {}
