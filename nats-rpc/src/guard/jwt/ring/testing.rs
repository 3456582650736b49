//! Keys made for a test, with the documents that publish them.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use crate::guard::jwt::testing::sign;

pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) alg: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) typ: String,
    pub(crate) iss: String,
    pub(crate) jwk: Value,
    pub(crate) private: EncodingKey,
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn new(kid: &str, alg: &'static str, algorithm: Algorithm, jwk: Value, private: EncodingKey) -> Self {
        let (typ, iss) = ("at+jwt".to_owned(), "nats-rpc-auth".to_owned());
        Self { kid: kid.to_owned(), alg, algorithm, typ, iss, jwk, private }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key().as_ref()) });
        Self::new(kid, "EdDSA", Algorithm::EdDSA, jwk, EncodingKey::from_ed_der(pkcs8.as_ref()))
    }

    pub(crate) fn p256(kid: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) });
        Self::new(kid, "ES256", Algorithm::ES256, jwk, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    pub(crate) fn rsa(kid: &str) -> Self {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({ "kty": "RSA", "n": b64(&public.n), "e": b64(&public.e) });
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        // jsonwebtoken wants PKCS#1, which PKCS#8 holds behind 26 bytes of algorithm identifier.
        Self::new(kid, "RS256", Algorithm::RS256, jwk, EncodingKey::from_rsa_der(&der.as_ref()[26..]))
    }

    pub(crate) fn header(&self) -> String {
        json!({ "alg": self.alg, "typ": self.typ, "kid": self.kid }).to_string()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub(crate) fn sign_with(&self, header: &str, claims: &Value) -> String {
        sign(header, &claims.to_string(), &self.private, self.algorithm)
    }
}

pub(crate) fn document(version: u64, keys: &[&Key]) -> Vec<u8> {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| json!({ "kid": key.kid, "alg": key.alg, "typ": key.typ, "iss": key.iss, "jwk": key.jwk }))
        .collect();
    json!({ "version": version, "keys": keys }).to_string().into_bytes()
}
