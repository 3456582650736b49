//! Tokens forged without a private key, for public keys that no key generation produces.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::json;

use super::super::testing::{Log, NOW, claims, claims_with, now};
use super::super::thumbprint::thumbprint;
use super::super::{JwtConfig, JwtGuard, JwtRejection, UserClaims};
use super::KeyRing;
use super::testing::{Key, document};

/// The points whose order divides 8, as libsodium's `ge25519_has_small_order` lists them, with either sign.
pub(crate) const SMALL_ORDER: [&str; 8] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Creates a key with the public half `point`; no private half exists.
fn weak(point: &[u8]) -> Key {
    let x = URL_SAFE_NO_PAD.encode(point);
    let kid = thumbprint([("crv", "Ed25519"), ("kty", "OKP"), ("x", &x)]).unwrap();
    Key { kid, jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": x }), ..Key::ed25519("replaced") }
}

/// Returns different tokens that `key` verifies, made without a private key.
///
/// A signature with a scalar of zero is valid if its point is minus the hash times the key. That product has at most
/// eight values: about one guess in eight succeeds.
fn forge(key: &Key, point: &[u8], count: usize) -> Vec<String> {
    let decoding = DecodingKey::from_ed_der(point);
    let guesses = (0..).flat_map(|jti| SMALL_ORDER.map(|guess| (jti, bytes(guess))));
    let tokens = guesses.filter_map(|(jti, guess)| {
        let claims = claims_with(json!({ "jti": format!("forged{jti}"), "roles": ["admin"] }));
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(key.header()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = URL_SAFE_NO_PAD.encode([&guess[..], &[0; 32]].concat());
        let holds = crypto::verify(&signature, signed.as_bytes(), &decoding, Algorithm::EdDSA).unwrap_or(false);
        holds.then(|| format!("{signed}.{signature}"))
    });
    let tokens: HashSet<_> = tokens.take(count).collect();
    tokens.into_iter().collect()
}

/// Without the check of keys, all 32 would be accepted.
#[test]
fn forged_tokens_of_small_order_keys_are_rejected() {
    let (mut outcomes, mut published) = (Vec::new(), Vec::new());
    for point in SMALL_ORDER.map(bytes) {
        let (good, weak) = (Key::ed25519("good"), weak(&point));
        let ring = KeyRing::from_json(&document(1, &[&good, &weak])).unwrap();
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(ring.clone()).clock(now)).unwrap();
        let forged = forge(&weak, &point, 4);
        outcomes.extend(forged.iter().map(|token| guard.verify(token).map(drop)));
        assert!(guard.verify(&good.sign(&claims())).is_ok(), "the good key beside it");
        published.push(ring.jwk_set(NOW).len());
    }
    assert_eq!(outcomes, [Err(JwtRejection::UnknownKeyId); 32]);
    assert_eq!(published, [1; 8], "the sets that `auth.jwks` replies with hold the good key alone");
}

#[test]
fn a_weak_key_raises_the_alarm_once() {
    let log = Log::default();
    let weak = weak(&bytes(SMALL_ORDER[0]));
    tracing::subscriber::with_default(log.subscriber(), || {
        let ring = KeyRing::from_json(&document(1, &[&Key::ed25519("good"), &weak])).unwrap();
        let again = document(1, &[&weak]);
        assert!(ring.replace(&again).is_err() && ring.replace(&again).is_err());
    });
    let alarms = log.text().lines().filter(|line| line.contains("ALARM") && line.contains(&weak.kid)).count();
    assert_eq!(alarms, 1, "{}", log.text());
}
