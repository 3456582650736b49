//! Signing with a shared secret: access tokens and assertions are made here alike.

use std::fmt;

use jsonwebtoken::crypto::{self, CryptoProvider};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use super::secret::SecretKey;

/// Signs tokens of one type with HS256 and one secret, naming no key.
pub(crate) struct Hs256Signer {
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

/// Chooses the cryptography for the process, once.
///
/// Another crate of the build may enable jsonwebtoken's second back end; unless one is chosen, it then
/// panics at the first token. An application that chose before is left its choice.
pub(crate) fn choose_back_end() {
    let _ = CryptoProvider::install_default(&crypto::aws_lc::DEFAULT_PROVIDER);
}
