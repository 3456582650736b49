//! A ring's keys as others read them.

use serde::Serialize;
use serde_json::{Map, Value};

use super::document::Entry;

/// A JWK Set (RFC 7517, section 5): what the subject `auth.jwks` answers.
///
/// Each key has `kid`, `alg` and `use` beside its own members; of what only this crate's verifiers know,
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct JwkSet {
    keys: Vec<Map<String, Value>>,
}

impl JwkSet {
    pub(crate) fn of<'a>(entries: impl Iterator<Item = &'a Entry>) -> Self {
        let jwk = |entry: &Entry| {
            // A key that is in use was read before, as an object.
            let mut jwk: Map<String, Value> = serde_json::from_str(entry.jwk.get()).unwrap_or_default();
            jwk.insert("kid".to_owned(), entry.kid.as_str().into());
            jwk.insert("alg".to_owned(), entry.alg.as_str().into());
            jwk.insert("use".to_owned(), "sig".into());
            jwk
        };
        Self { keys: entries.map(jwk).collect() }
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}
