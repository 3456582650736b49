//! Access tokens of every algorithm, all with the claims that the auth service issues.

use std::error::Error;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::{DEFAULT_ISSUER, JwtConfig, KeyRing, SecretKey};
use serde_json::{Value, json};

const KID: &str = "bench";

/// A signer of one algorithm, and the key with which a guard verifies its tokens.
pub(super) struct Signer {
    pub(super) algorithm: &'static str,
    key: Option<(EncodingKey, Algorithm)>,
    ring: Option<KeyRing>,
}

impl Signer {
    /// HS256, EdDSA, ES256 and RS256 (2,048 bits).
    pub(super) fn all() -> Result<Vec<Self>, Box<dyn Error>> {
        Ok(vec![Self { algorithm: "HS256", key: None, ring: None }, Self::ed25519()?, Self::p256()?, Self::rsa()?])
    }

    fn ed25519() -> Result<Self, Box<dyn Error>> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())?;
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())?;
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()) });
        Self::in_ring("EdDSA", Algorithm::EdDSA, &jwk, EncodingKey::from_ed_der(pkcs8.as_ref()))
    }

    fn p256() -> Result<Self, Box<dyn Error>> {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new())?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref())?;
        // An uncompressed point: one marker byte, then both coordinates.
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y) });
        Self::in_ring("ES256", Algorithm::ES256, &jwk, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    fn rsa() -> Result<Self, Box<dyn Error>> {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048)?;
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({ "kty": "RSA", "n": b64(&public.n), "e": b64(&public.e) });
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?;
        // jsonwebtoken expects PKCS#1, which PKCS#8 wraps after 26 bytes of algorithm identifier.
        Self::in_ring("RS256", Algorithm::RS256, &jwk, EncodingKey::from_rsa_der(&der.as_ref()[26..]))
    }

    fn in_ring(
        name: &'static str,
        algorithm: Algorithm,
        jwk: &Value,
        key: EncodingKey,
    ) -> Result<Self, Box<dyn Error>> {
        let published = json!({ "kid": KID, "alg": name, "typ": "at+jwt", "iss": DEFAULT_ISSUER, "jwk": jwk });
        let document = json!({ "version": 1, "keys": [published] }).to_string();
        let ring = KeyRing::from_json(document.as_bytes())?;
        Ok(Self { algorithm: name, key: Some((key, algorithm)), ring: Some(ring) })
    }

    /// Returns a configuration of guards that accept these tokens.
    pub(super) fn config(&self) -> Result<JwtConfig, Box<dyn Error>> {
        Ok(match &self.ring {
            Some(ring) => JwtConfig::ring(ring.clone()),
            None => JwtConfig::hs256(secret()?),
        })
    }

    /// Issues a token of `sub`, some 400 bytes long.
    pub(super) fn sign(&self, sub: &str) -> Result<String, Box<dyn Error>> {
        let roles = ["user".to_owned()];
        let grant = Grant::new(sub, "EAAQpXuk4Bwq1Y8c2kK2Qg").roles(&roles).scope("profile:read profile:write");
        let issued = TokenIssuer::hs256(&secret()?).issue(&grant)?;
        let Some((key, algorithm)) = &self.key else { return Ok(issued) };
        let claims = issued.split('.').nth(1).ok_or("a token without claims")?;
        let header = json!({ "alg": self.algorithm, "typ": "at+jwt", "kid": KID });
        let message = format!("{}.{claims}", b64(header.to_string().as_bytes()));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, *algorithm)?;
        Ok(format!("{message}.{signature}"))
    }
}

pub(super) fn secret() -> Result<SecretKey, Box<dyn Error>> {
    Ok(SecretKey::new("JWT_SECRET", crate::token::SECRET)?)
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
