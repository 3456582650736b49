//! The key ring: public keys by key id, replaced as a whole.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwk::{self, Unusable};
use super::keys::{VerifyingKey, is_sound_key_id};

/// The public keys that tokens may be signed with, shared by every verifier of the process.
///
/// A document lists them, each with the one algorithm, token type and issuer it may be used for:
///
/// ```json
/// { "version": 7, "keys": [
///   { "kid": "…", "alg": "EdDSA", "typ": "at+jwt", "iss": "nats-rpc-auth",
///     "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "…" } } ] }
/// ```
///
/// Algorithms are `EdDSA`, `ES256` and `RS256`. Clones are the same ring: [`replace`](Self::replace) on
/// one of them is seen by all.
///
/// ```
/// use nats_rpc::jwt::KeyRing;
///
/// let ring = KeyRing::from_json(br#"{ "version": 1, "keys": [] }"#)?;
/// assert_eq!(ring.version(), 1);
/// // An older document never takes the place of a newer one.
/// assert!(ring.replace(br#"{ "version": 1, "keys": [] }"#).is_err());
/// # Ok::<_, nats_rpc::jwt::KeyRingError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<ArcSwap<Keys>>);

#[derive(Default)]
struct Keys {
    version: u64,
    by_id: HashMap<Box<str>, Arc<VerifyingKey>>,
}

/// Why a key document was refused as a whole; the keys in use stay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// Not a document of the form shown at [`KeyRing`].
    #[error("the key document cannot be read: {0}")]
    Malformed(String),
    /// Its version is not above the one in use.
    #[error("key document of version {found} does not replace version {current}")]
    Stale {
        /// The version in use.
        current: u64,
        /// The version of the refused document.
        found: u64,
    },
    /// A private or symmetric key was published: an alarm, not a nuisance.
    #[error("key {kid:?} holds private or symmetric key material")]
    PrivateKey {
        /// The key's id.
        kid: String,
    },
    /// Two keys have the same id.
    #[error("two keys have the id {kid:?}")]
    DuplicateKeyId {
        /// The id.
        kid: String,
    },
}

impl KeyRing {
    /// Reads a key document.
    ///
    /// A single key that is weak or of an unknown kind is left out, with a warning in the log.
    ///
    /// # Errors
    /// [`KeyRingError`] if the document is malformed, holds private or symmetric keys, or an id twice.
    pub fn from_json(document: &[u8]) -> Result<Self, KeyRingError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Keys::parse(document)?))))
    }

    /// Puts another document in place of the one in use, at once for all verifiers.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json), and [`KeyRingError::Stale`] if its version is not above the one
    /// in use. The keys in use then stay as they are.
    pub fn replace(&self, document: &[u8]) -> Result<(), KeyRingError> {
        let next = Arc::new(Keys::parse(document)?);
        let replaced = self.0.rcu(|current| match next.version > current.version {
            true => Arc::clone(&next),
            false => Arc::clone(current),
        });
        if next.version > replaced.version {
            return Ok(());
        }
        Err(KeyRingError::Stale { current: replaced.version, found: next.version })
    }

    /// The version of the document in use.
    pub fn version(&self) -> u64 {
        self.0.load().version
    }

    pub(crate) fn find(&self, kid: &str) -> Option<(Arc<VerifyingKey>, u64)> {
        let keys = self.0.load();
        keys.by_id.get(kid).map(|key| (Arc::clone(key), keys.version))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.load();
        f.debug_struct("KeyRing").field("version", &keys.version).field("keys", &keys.by_id.keys()).finish()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    version: u64,
    #[serde(borrow)]
    keys: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    kid: String,
    alg: String,
    typ: String,
    iss: String,
    #[serde(borrow)]
    jwk: &'a RawValue,
}

impl Keys {
    fn parse(document: &[u8]) -> Result<Self, KeyRingError> {
        let document: Document<'_> =
            serde_json::from_slice(document).map_err(|error| KeyRingError::Malformed(error.to_string()))?;
        let mut by_id = HashMap::with_capacity(document.keys.len());
        for Entry { kid, alg, typ, iss, jwk } in document.keys {
            if !is_sound_key_id(&kid) || typ.is_empty() || iss.is_empty() {
                return Err(KeyRingError::Malformed("a key has no usable kid, typ or iss".to_owned()));
            }
            if by_id.contains_key(kid.as_str()) {
                return Err(KeyRingError::DuplicateKeyId { kid });
            }
            let key = match jwk::verifying_key(jwk.get(), &alg, typ, iss) {
                Ok(key) => Some(Arc::new(key)),
                Err(Unusable::Private) => return Err(KeyRingError::PrivateKey { kid }),
                Err(reason) => {
                    tracing::warn!(%kid, %reason, "key left out of the key ring");
                    None
                }
            };
            by_id.insert(kid.into_boxed_str(), key);
        }
        let by_id = by_id.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
        Ok(Self { version: document.version, by_id })
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn document(version: u64, keys: &str) -> Vec<u8> {
        format!(r#"{{"version":{version},"keys":[{keys}]}}"#).into_bytes()
    }

    fn key(kid: &str, alg: &str, jwk: &str) -> String {
        format!(r#"{{"kid":"{kid}","alg":"{alg}","typ":"at+jwt","iss":"i","jwk":{jwk}}}"#)
    }

    fn good(kid: &str) -> String {
        key(kid, "EdDSA", &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"}}"#))
    }

    #[test]
    fn jwt_signature_11_a_private_or_symmetric_key_refuses_the_update_and_the_old_ring_stays() {
        let ring = KeyRing::from_json(&document(1, &good("a"))).unwrap();
        let private = key("b", "EdDSA", &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{X}"}}"#));
        let symmetric = key("b", "HS256", &format!(r#"{{"kty":"oct","k":"{X}"}}"#));
        for bad in [private, symmetric] {
            let refused = ring.replace(&document(2, &format!("{},{bad}", good("a")))).unwrap_err();
            assert_eq!(refused, KeyRingError::PrivateKey { kid: "b".to_owned() });
            assert!(ring.find("a").is_some());
        }
        ring.replace(&document(2, &format!("{},{}", good("a"), good("b")))).unwrap();
        assert!(ring.find("b").is_some());
    }

    #[test]
    fn jwt_signature_11_a_duplicate_key_id_refuses_the_update() {
        let twice = document(1, &format!("{},{}", good("a"), good("a")));
        assert_eq!(KeyRing::from_json(&twice).unwrap_err(), KeyRingError::DuplicateKeyId { kid: "a".to_owned() });
        assert!(KeyRing::from_json(&document(1, &format!("{},{}", good("a"), good("b")))).is_ok());
    }

    #[test]
    fn jwt_signature_10_11_a_weak_or_unknown_key_is_left_out_alone() {
        let short = key("b", "EdDSA", r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#);
        let unknown = key("c", "EdDSA", r#"{"kty":"LMS","x":"AAAA"}"#);
        let ring = KeyRing::from_json(&document(1, &format!("{short},{},{unknown}", good("a")))).unwrap();
        assert!(ring.find("a").is_some());
        assert!(ring.find("b").is_none());
        assert!(ring.find("c").is_none());
    }

    #[test]
    fn keys_05_an_older_document_does_not_come_back() {
        let ring = KeyRing::from_json(&document(2, &good("new"))).unwrap();
        let refused = ring.replace(&document(1, &good("old"))).unwrap_err();
        assert_eq!(refused, KeyRingError::Stale { current: 2, found: 1 });
        assert!(ring.find("old").is_none());
        ring.replace(&document(3, &good("newer"))).unwrap();
        assert!(ring.find("newer").is_some() && ring.find("new").is_none());
    }

    #[test]
    fn a_malformed_document_is_refused() {
        for bad in ["", "[]", "{}", r#"{"version":1}"#, r#"{"version":1.5,"keys":[]}"#] {
            assert!(matches!(KeyRing::from_json(bad.as_bytes()), Err(KeyRingError::Malformed(_))), "{bad}");
        }
        for kid in ["", "a/b", "a b"] {
            assert!(KeyRing::from_json(&document(1, &good(kid))).is_err(), "{kid}");
        }
    }
}
