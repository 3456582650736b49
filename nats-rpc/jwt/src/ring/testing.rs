//! Keys made for a test, with the documents that publish them.

mod pair;

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use self::pair::Pair;
use crate::testing::sign;

pub(crate) struct Key {
    pub(crate) kid: String,
    pub(crate) alg: &'static str,
    pub(crate) algorithm: Algorithm,
    pub(crate) typ: String,
    pub(crate) iss: String,
    pub(crate) jwk: Value,
    pub(crate) private: EncodingKey,
}

impl Key {
    fn new(kid: &str, Pair { alg, algorithm, jwk, private }: Pair) -> Self {
        let (typ, iss) = ("at+jwt".to_owned(), "nats-rpc-auth".to_owned());
        Self { kid: kid.to_owned(), alg, algorithm, typ, iss, jwk, private }
    }

    pub(crate) fn ed25519(kid: &str) -> Self {
        Self::new(kid, Pair::ed25519())
    }

    pub(crate) fn p256(kid: &str) -> Self {
        Self::new(kid, Pair::p256())
    }

    pub(crate) fn rsa(kid: &str) -> Self {
        Self::new(kid, Pair::rsa())
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
