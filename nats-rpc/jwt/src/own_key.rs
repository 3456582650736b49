//! A key pair that this process made, and nobody else ever sees.

use std::fmt;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::thumbprint::thumbprint;

/// An Ed25519 key pair for tokens of one type.
///
/// The private half is made in the memory of AWS-LC and never leaves it; AWS-LC overwrites what it frees.
pub(crate) struct OwnKey {
    pair: Ed25519KeyPair,
    kid: String,
    jwk: Box<RawValue>,
    /// The header of every token, encoded.
    header: String,
}

#[derive(Serialize)]
struct Jwk<'a> {
    crv: &'a str,
    kty: &'a str,
    x: &'a str,
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

impl OwnKey {
    /// Makes a pair for tokens of type `typ`.
    pub(crate) fn generate(typ: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let pair = Ed25519KeyPair::generate().map_err(|Unspecified| "no key could be made")?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let jwk = serde_json::to_string(&Jwk { crv: "Ed25519", kty: "OKP", x: &x })?;
        let kid = thumbprint([("crv", "Ed25519"), ("kty", "OKP"), ("x", &x)])?;
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Header { alg: "EdDSA", typ, kid: &kid })?);
        Ok(Self { pair, kid, jwk: RawValue::from_string(jwk)?, header })
    }

    /// The RFC 7638 thumbprint of the public half.
    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The public half.
    pub(crate) fn jwk(&self) -> &RawValue {
        &self.jwk
    }

    /// A signature of `bytes`, in base64url.
    pub(crate) fn sign_detached(&self, bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(bytes))
    }

    /// A token of these claims.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, serde_json::Error> {
        let mut token = self.header.clone();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(serde_json::to_vec(claims)?, &mut token);
        let signature = self.pair.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{claims, now};
    use super::super::{JwtConfig, JwtGuard, KeyRing, UserClaims};
    use super::*;

    #[test]
    fn what_it_signs_a_ring_with_its_public_half_verifies() {
        let (key, other) = (OwnKey::generate("at+jwt").unwrap(), OwnKey::generate("at+jwt").unwrap());
        assert_ne!(key.kid(), other.kid());
        let entry =
            json!({ "kid": key.kid(), "alg": "EdDSA", "typ": "at+jwt", "iss": "nats-rpc-auth", "jwk": key.jwk() });
        let ring = KeyRing::from_json(json!({ "version": 1, "keys": [entry] }).to_string().as_bytes()).unwrap();
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(ring).clock(now)).unwrap();
        assert!(guard.verify(&key.sign(&claims()).unwrap()).is_ok());
        assert!(guard.verify(&other.sign(&claims()).unwrap()).is_err());
    }

    #[test]
    fn nothing_private_is_published_or_printed() {
        let key = OwnKey::generate("at+jwt").unwrap();
        let jwk: serde_json::Map<_, _> = serde_json::from_str(key.jwk().get()).unwrap();
        assert_eq!(jwk.keys().collect::<Vec<_>>(), ["crv", "kty", "x"]);
        assert_eq!(format!("{key:?}"), format!("OwnKey {{ kid: {:?}, .. }}", key.kid()));
    }
}
