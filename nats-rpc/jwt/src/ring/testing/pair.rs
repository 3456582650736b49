//! Key pairs made for a test, with the public half as a ring publishes it.
//!
//! The hostile cases of `tests/tests/it/attacks` include this file; it needs nothing of the crate.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair, RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

pub(crate) struct Pair {
    pub(crate) alg: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) jwk: Value,
    pub(crate) private: EncodingKey,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Pair {
    pub(crate) fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(pair.public_key()) });
        Self { alg: "EdDSA", algorithm: Algorithm::EdDSA, jwk, private: EncodingKey::from_ed_der(pkcs8.as_ref()) }
    }

    pub(crate) fn p256() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref()).unwrap();
        let point = pair.public_key().as_ref();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..]) });
        Self { alg: "ES256", algorithm: Algorithm::ES256, jwk, private: EncodingKey::from_ec_der(pkcs8.as_ref()) }
    }

    pub(crate) fn rsa() -> Self {
        let pair = RsaKeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
        let jwk = json!({ "kty": "RSA", "n": b64(&public.n), "e": b64(&public.e) });
        let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        // jsonwebtoken wants PKCS#1, which PKCS#8 holds behind 26 bytes of algorithm identifier.
        let private = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
        Self { alg: "RS256", algorithm: Algorithm::RS256, jwk, private }
    }
}
