//! Signing with a shared secret or with the process's own key, for access tokens and assertions.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jsonwebtoken::crypto::{self, CryptoProvider};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nats_rpc::RpcError;
use serde::Serialize;

use super::own_key::OwnKey;
use super::secret::SecretKey;

/// The key that signs tokens.
#[derive(Debug)]
pub enum Signer {
    /// A shared secret, without rotation.
    Secret(Box<Hs256Signer>),
    /// The active key of a ring.
    Ring {
        /// The key.
        active: ActiveKey,
        /// The task that publishes the key, kept alive by the signer.
        _publisher: Publishing,
    },
}

/// A value that only has to be kept alive.
pub struct Publishing(#[allow(dead_code, reason = "kept, not used")] pub(crate) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publishing")
    }
}

impl Signer {
    /// Signs tokens of type `typ` with HS256 and `secret`.
    pub fn hs256(secret: &SecretKey, typ: &str) -> Self {
        Self::Secret(Box::new(Hs256Signer::new(secret, typ)))
    }

    /// Returns a signed token of `claims`, which expire at `exp` (seconds since 1970).
    ///
    /// # Errors
    /// A 500 if the claims cannot be serialized, a 503 if no key is published until `exp`.
    pub fn sign(&self, claims: &impl Serialize, exp: u64) -> Result<String, RpcError> {
        match self {
            Self::Secret(secret) => secret.sign(claims).map_err(RpcError::internal),
            Self::Ring { active, .. } => active.usable_until(exp)?.sign(claims).map_err(RpcError::internal),
        }
    }
}

/// The active signing key of a process, if it has one; clones share it.
#[derive(Clone, Debug, Default)]
pub struct ActiveKey(Arc<ArcSwapOption<Active>>);

#[derive(Debug)]
struct Active {
    key: Arc<OwnKey>,
    /// The end of the key's use as published to the verifiers, in seconds since 1970.
    until: u64,
}

impl ActiveKey {
    /// Signs with `key` from now on tokens that expire by `until`, the end of use published to the verifiers.
    pub(crate) fn set(&self, key: Arc<OwnKey>, until: u64) {
        self.0.store(Some(Arc::new(Active { key, until })));
    }

    /// Stops signing until another key is set.
    pub(crate) fn clear(&self) {
        self.0.store(None);
    }

    pub(crate) fn kid(&self) -> Option<String> {
        self.0.load().as_ref().map(|active| active.key.kid().to_owned())
    }

    /// Returns the key, if verifiers accept it at `now`.
    pub(crate) fn usable_at(&self, now: u64) -> Option<Arc<OwnKey>> {
        self.usable_until(now).ok()
    }

    fn usable_until(&self, exp: u64) -> Result<Arc<OwnKey>, RpcError> {
        match &*self.0.load() {
            Some(active) if exp <= active.until => Ok(Arc::clone(&active.key)),
            _ => Err(RpcError::unavailable("no signing key is published at the moment: try again")),
        }
    }
}

/// Signs tokens of one type with HS256 and one secret, without a key id.
pub struct Hs256Signer {
    key: EncodingKey,
    header: Header,
}

impl Hs256Signer {
    pub(crate) fn new(secret: &SecretKey, typ: &str) -> Self {
        choose_back_end();
        let header = Header { typ: Some(typ.to_owned()), ..Header::new(Algorithm::HS256) };
        Self { key: EncodingKey::from_secret(secret.as_bytes()), header }
    }

    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
    }
}

impl fmt::Debug for Hs256Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hs256Signer").field("typ", &self.header.typ).finish_non_exhaustive()
    }
}

/// Selects the cryptographic back end for the process, once.
///
/// Another crate of the build may enable jsonwebtoken's second back end. Unless one is selected, jsonwebtoken then
/// panics at the first token. A back end that the application has selected before is kept.
pub(crate) fn choose_back_end() {
    let _ = CryptoProvider::install_default(&crypto::aws_lc::DEFAULT_PROVIDER);
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::*;

    #[test]
    fn a_key_signs_nothing_that_would_outlive_it() {
        let active = ActiveKey::default();
        let signer = Signer::Ring { active: active.clone(), _publisher: Publishing(Arc::new(())) };
        let refused = |exp| signer.sign(&serde_json::json!({}), exp).map_err(|error| error.code());
        assert_eq!((refused(0), active.kid()), (Err(Code::Unavailable), None));
        let key = Arc::new(OwnKey::generate("at+jwt").unwrap());
        active.set(key.clone(), 100);
        assert_eq!(active.kid().as_deref(), Some(key.kid()));
        assert!(refused(100).is_ok());
        assert_eq!(refused(101), Err(Code::Unavailable));
        active.set(key, 200);
        assert!(refused(101).is_ok());
        active.clear();
        assert_eq!((refused(101), active.kid()), (Err(Code::Unavailable), None));
    }
}
