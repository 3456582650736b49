//! Tokens to order, good and hostile, and the keys that sign them.

#[path = "../../../../nats-rpc/jwt/src/ring/testing/pair.rs"]
mod pair;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use self::pair::Pair;
use crate::support::thumbprint;

/// The time at which all guards of tokens stand, unless a case moves them.
pub(super) const NOW: u64 = 1_800_000_000;
/// The secret of access tokens where there is one.
pub(super) const SECRET: &str = "the access secret of the hostile cases";
/// The header of access tokens signed with it.
pub(super) const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn unb64(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// The claims of a good access token.
pub(super) fn claims() -> Value {
    json!({
        "iss": "nats-rpc-auth", "aud": "nats-rpc", "sub": "u1", "iat": NOW, "exp": NOW + 900,
        "jti": "j1", "sid": "s1", "ep": 0, "roles": ["user"], "scope": "users:read",
    })
}

/// [`claims`] with `changes` merged in; a `null` removes a claim.
pub(super) fn claims_with(changes: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims(), changes) else { panic!("not objects") };
    claims.extend(changes);
    claims.retain(|_, claim| !claim.is_null());
    Value::Object(claims)
}

/// A token of exactly this header and payload, signed as `algorithm` whatever the header says.
pub(super) fn sign(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    sign_raw(&b64(header), &b64(payload), key, algorithm)
}

/// As [`sign`], with both parts as they are to stand in the token.
pub(super) fn sign_raw(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let signed = format!("{header}.{payload}");
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// A token of exactly this header and payload, signed with [`SECRET`].
pub(super) fn signed_with_secret(header: &str, payload: &str) -> String {
    sign(header, payload, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

/// `token` with other bytes in place of its signature's.
pub(super) fn resign(token: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = unb64(signature);
    change(&mut signature);
    format!("{signed}.{}", b64(signature))
}

/// A key pair with the public half as a ring publishes it.
pub(super) struct Key {
    pub(super) kid: String,
    pub(super) alg: &'static str,
    pub(super) algorithm: Algorithm,
    pub(super) typ: &'static str,
    pub(super) iss: &'static str,
    pub(super) jwk: Value,
    pub(super) private: EncodingKey,
}

impl Key {
    fn new(kid: &str, Pair { alg, algorithm, jwk, private }: Pair) -> Self {
        Self { kid: kid.to_owned(), alg, algorithm, typ: "at+jwt", iss: "nats-rpc-auth", jwk, private }
    }

    pub(super) fn ed25519(kid: &str) -> Self {
        Self::new(kid, Pair::ed25519())
    }

    /// One that is called by its thumbprint, as the ring that services follow wants it.
    pub(super) fn own() -> Self {
        let pair = Pair::ed25519();
        Self::new(&thumbprint(&pair.jwk), pair)
    }

    pub(super) fn p256(kid: &str) -> Self {
        Self::new(kid, Pair::p256())
    }

    pub(super) fn rsa(kid: &str) -> Self {
        Self::new(kid, Pair::rsa())
    }

    /// The public half as SubjectPublicKeyInfo (RFC 5280), for curves.
    pub(super) fn spki(&self) -> Vec<u8> {
        let member = |name: &str| unb64(self.jwk[name].as_str().unwrap());
        match self.alg {
            "EdDSA" => [&unb64("MCowBQYDK2VwAyEA")[..], &member("x")].concat(),
            "ES256" => {
                let prefix = unb64("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE");
                [&prefix[..], &member("x"), &member("y")].concat()
            }
            other => panic!("no SPKI of {other}"),
        }
    }

    pub(super) fn header(&self) -> Value {
        json!({ "alg": self.alg, "typ": self.typ, "kid": self.kid })
    }

    /// The header with `changes` merged in; a `null` removes a member.
    pub(super) fn header_with(&self, changes: Value) -> String {
        let (Value::Object(mut header), Value::Object(changes)) = (self.header(), changes) else { panic!() };
        header.extend(changes);
        header.retain(|_, member| !member.is_null());
        Value::Object(header).to_string()
    }

    /// A token of these claims.
    pub(super) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// A token of exactly this header and payload, signed as this key signs.
    pub(super) fn sign(&self, header: &str, payload: &str) -> String {
        sign(header, payload, &self.private, self.algorithm)
    }

    /// The key as an entry of a key document.
    pub(super) fn entry(&self) -> Value {
        json!({ "kid": self.kid, "alg": self.alg, "typ": self.typ, "iss": self.iss, "jwk": self.jwk })
    }
}

/// A key document of these entries.
pub(super) fn document(version: u64, keys: &[Value]) -> Vec<u8> {
    json!({ "version": version, "keys": keys }).to_string().into_bytes()
}
