//! A ring's keys in a standard format.

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::Entry;

/// A JWK Set (RFC 7517, section 5), the reply of the subject `auth.jwks`.
///
/// Each key has `kid`, `alg` and `use` in addition to its own members, but no members that only this crate's verifiers
/// use.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JwkSet {
    keys: Vec<Map<String, Value>>,
}

impl JwkSet {
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let jwk = |entry: &Entry| {
            // A key in use was parsed before as an object.
            let mut jwk: Map<String, Value> = serde_json::from_str(entry.jwk.get()).unwrap_or_default();
            jwk.insert("kid".to_owned(), entry.kid.as_str().into());
            jwk.insert("alg".to_owned(), entry.alg.as_str().into());
            jwk.insert("use".to_owned(), "sig".into());
            jwk
        };
        Self { keys: entries.map(jwk).collect() }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns `true` if it contains no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
