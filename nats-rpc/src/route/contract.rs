//! What a handler takes and answers, as hashes that change when its JSON does.

#[cfg(feature = "schema")]
mod schema;

use std::marker::PhantomData;

/// The hashes of one handler; what its types do not describe has none.
///
/// Types describe themselves with the feature `schema`, by schemars' `JsonSchema`.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// Of its payload.
    pub payload: Option<String>,
    /// Of its answer.
    pub answer: Option<String>,
}

impl Contract {
    /// Of a handler that takes and answers nothing that is described.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what an argument takes. A handler with two that are described has one hash of both.
    #[must_use]
    pub fn taken(mut self, hash: Option<String>) -> Self {
        self.payload = match (self.payload, hash) {
            (Some(first), Some(second)) => Some(format!("{first}-{second}")),
            (first, second) => first.or(second),
        };
        self
    }

    /// Adds what the handler answers.
    #[must_use]
    pub fn answered(self, hash: Option<String>) -> Self {
        Self { answer: hash, ..self }
    }
}

/// Stands for a type whose shape is asked for; the macros' tool.
#[doc(hidden)]
pub struct Shape<T: ?Sized>(PhantomData<T>);

impl<T: ?Sized> Shape<T> {
    #[doc(hidden)]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Shape<T> {
    /// What an async function returns, its arguments in one tuple.
    pub fn returned_by<A, F: Future<Output = T>>(_: impl FnOnce(A) -> F) -> Self {
        Self::new()
    }
}

/// Picks, by autoref, the shape of a type that has one, and none of any other.
#[doc(hidden)]
pub trait Describe {
    /// As an argument.
    fn taken(&self) -> Option<String> {
        None
    }

    /// As what a handler returns.
    fn answered(&self) -> Option<String> {
        None
    }
}

impl<T: ?Sized> Describe for Shape<T> {}
