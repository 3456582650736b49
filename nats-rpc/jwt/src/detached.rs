//! Auth's signatures on data other than tokens: changes of a bucket, and beacons.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;

use super::config::ACCESS_TOKEN_TYPE;
use super::ring::{KeyRing, WeakKeyRing};
use super::secret::SecretKey;
use super::signing::{ActiveKey, Publishing, choose_back_end};

/// The maximum clock skew, in seconds.
const LEEWAY: u64 = 60;
/// Derives a separate key from the secret, so that no token can be used as a detached signature.
const DERIVATION: &[u8] = b"nats-rpc detached signature key 1";

/// Signs bytes with the active key of an auth instance, or with a key that is derived from the static secret.
///
/// The bytes must begin with a line that names their kind. That line must not be a possible beginning of a token,
/// which is base64url.
pub(crate) enum DetachedSigner {
    Keys { active: ActiveKey, _publisher: Publishing },
    Secret(Box<hmac::Key>),
}

/// Verifies the signatures of a [`DetachedSigner`].
pub(crate) enum DetachedVerifier {
    Ring(WeakKeyRing),
    Secret(Box<hmac::Key>),
}

/// The reason why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureError {
    #[error("the key ring has no such key")]
    UnknownKey,
    #[error("the signature is not valid")]
    Invalid,
}

impl DetachedSigner {
    pub(crate) fn secret(secret: &SecretKey) -> Self {
        Self::Secret(Box::new(derived(secret)))
    }

    /// Returns the id of the key, empty for a secret, and the signature; `None` while no key is published.
    pub(crate) fn sign(&self, bytes: &[u8], now: u64) -> Option<(String, String)> {
        match self {
            Self::Keys { active, .. } => {
                let key = active.usable_at(now)?;
                Some((key.kid().to_owned(), key.sign_detached(bytes)))
            }
            Self::Secret(key) => Some((String::new(), URL_SAFE_NO_PAD.encode(hmac::sign(key, bytes)))),
        }
    }
}

impl DetachedVerifier {
    pub(crate) fn ring(ring: &KeyRing) -> Self {
        choose_back_end();
        Self::Ring(ring.downgrade())
    }

    pub(crate) fn secret(secret: &SecretKey) -> Self {
        Self::Secret(Box::new(derived(secret)))
    }

    /// Verifies that the key `kid` signed `bytes`, at `now` in seconds since 1970.
    pub(crate) fn verify(&self, kid: &str, signature: &str, bytes: &[u8], now: u64) -> Result<(), SignatureError> {
        match self {
            Self::Ring(ring) => {
                let found = ring.upgrade().and_then(|ring| ring.find(kid));
                let (key, _) = found.ok_or(SignatureError::UnknownKey)?;
                let is_in_use =
                    key.not_before <= now.saturating_add(LEEWAY) && now < key.not_after.saturating_add(LEEWAY);
                if &*key.typ != ACCESS_TOKEN_TYPE || !is_in_use {
                    return Err(SignatureError::Invalid);
                }
                let verified = crypto::verify(signature, bytes, &key.decoding, key.algorithm);
                if verified.unwrap_or(false) { Ok(()) } else { Err(SignatureError::Invalid) }
            }
            Self::Secret(key) => {
                let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureError::Invalid)?;
                let verified = if kid.is_empty() { hmac::verify(key, bytes, &signature).is_ok() } else { false };
                if verified { Ok(()) } else { Err(SignatureError::Invalid) }
            }
        }
    }
}

fn derived(secret: &SecretKey) -> hmac::Key {
    let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&secret, DERIVATION).as_ref())
}

impl fmt::Debug for DetachedSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "DetachedSigner::Keys",
            Self::Secret(_) => "DetachedSigner::Secret",
        })
    }
}

impl fmt::Debug for DetachedVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ring(_) => "DetachedVerifier::Ring",
            Self::Secret(_) => "DetachedVerifier::Secret",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::own_key::OwnKey;
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const BYTES: &[u8] = b"kind\nwhat is said";

    /// Creates a ring with the public half of `key`, for tokens of type `typ`, until 100 s after `NOW`.
    fn ring(key: &OwnKey, typ: &str) -> KeyRing {
        let entry = json!({
            "kid": key.kid(), "alg": "EdDSA", "typ": typ, "iss": "i", "not_before": NOW, "not_after": NOW + 100,
            "jwk": key.jwk()
        });
        KeyRing::from_json(json!({ "version": 1, "keys": [entry] }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_a_key_of_access_tokens_in_use_signs() {
        let key = Arc::new(OwnKey::generate(ACCESS_TOKEN_TYPE).unwrap());
        let active = ActiveKey::default();
        let signer = DetachedSigner::Keys { active: active.clone(), _publisher: Publishing(Arc::new(())) };
        assert_eq!(signer.sign(BYTES, NOW), None, "no key is published");
        active.set(key.clone(), NOW + 100);
        let (kid, signature) = signer.sign(BYTES, NOW).unwrap();
        let good = ring(&key, ACCESS_TOKEN_TYPE);
        let verify = |ring: &KeyRing, bytes, now| DetachedVerifier::ring(ring).verify(&kid, &signature, bytes, now);
        assert_eq!(verify(&good, BYTES, NOW), Ok(()));
        assert_eq!(verify(&good, b"kind\nsomething else", NOW), Err(SignatureError::Invalid));
        assert_eq!(verify(&good, BYTES, NOW + 99 + LEEWAY), Ok(()));
        assert_eq!(verify(&good, BYTES, NOW + 100 + LEEWAY), Err(SignatureError::Invalid), "its use has ended");
        assert_eq!(verify(&good, BYTES, NOW - LEEWAY - 1), Err(SignatureError::Invalid), "it has not begun");
        assert_eq!(verify(&ring(&key, "gw+jwt"), BYTES, NOW), Err(SignatureError::Invalid), "a key of a gateway");
        let other = ring(&OwnKey::generate(ACCESS_TOKEN_TYPE).unwrap(), ACCESS_TOKEN_TYPE);
        assert_eq!(verify(&other, BYTES, NOW), Err(SignatureError::UnknownKey));
    }

    #[test]
    fn secret_signs_with_a_key_of_its_own() {
        let (secret, other) = (SecretKey::new("A", [1; 32]).unwrap(), SecretKey::new("B", [2; 32]).unwrap());
        let (kid, signature) = DetachedSigner::secret(&secret).sign(BYTES, NOW).unwrap();
        let verify = |secret: &SecretKey, kid: &str, signature: &str, bytes| {
            DetachedVerifier::secret(secret).verify(kid, signature, bytes, NOW)
        };
        assert_eq!(verify(&secret, &kid, &signature, BYTES), Ok(()));
        assert_eq!(verify(&other, &kid, &signature, BYTES), Err(SignatureError::Invalid));
        assert_eq!(verify(&secret, &kid, &signature, b"kind\nelse"), Err(SignatureError::Invalid));
        assert_eq!(verify(&secret, "k", &signature, BYTES), Err(SignatureError::Invalid));
        let of_tokens = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), BYTES);
        let of_tokens = URL_SAFE_NO_PAD.encode(of_tokens);
        assert_eq!(verify(&secret, "", &of_tokens, BYTES), Err(SignatureError::Invalid), "the key of tokens");
    }
}
