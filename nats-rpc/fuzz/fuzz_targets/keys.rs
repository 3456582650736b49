#![no_main]
//! A key document of any text, and a key of any bytes: no private key is kept, and no made-up signature verifies.

use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use nats_rpc_jwt::{DEFAULT_AUDIENCE, JwtConfig, JwtGuard, KeyRing, SecretKey, UserClaims};
use serde_json::{Value, json};

/// Encodings of points of small order on Curve25519's Edwards form (y, little endian), canonical and not.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Seconds since 1970, by the clock of the guard.
const NOW: u64 = 2_000_000_000;

static CLAIMS: LazyLock<String> = LazyLock::new(|| {
    let claims = json!({
        "iss": "i", "aud": DEFAULT_AUDIENCE, "sub": "ada", "iat": NOW, "exp": NOW + 900, "jti": "j", "sid": "s", "ep": 0,
    });
    URL_SAFE_NO_PAD.encode(claims.to_string())
});

fn bytes(hex: &str) -> [u8; 32] {
    std::array::from_fn(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).expect("hexadecimal digits"))
}

/// A point of small order for a low selector, else the bytes, cut or filled to 32.
fn point(selector: u8, given: &[u8]) -> [u8; 32] {
    match SMALL_ORDER.get(usize::from(selector)) {
        Some(hex) => bytes(hex),
        None => std::array::from_fn(|index| given.get(index).copied().unwrap_or(0)),
    }
}

fn check_document(document: &[u8]) {
    let Ok(ring) = KeyRing::from_json(document) else { return };
    assert!(ring.replace(document).is_err(), "the same version again");
    for now in [0, 1 << 32, u64::MAX] {
        let set = serde_json::to_value(ring.jwk_set(now)).expect("a set is JSON");
        for key in set["keys"].as_array().expect("an array") {
            assert_eq!(key["use"], "sig");
            assert!(PRIVATE_MEMBERS.iter().all(|member| key.get(member).is_none()), "{key}");
        }
    }
}

/// Returns `true` if a ring with this key accepts a token with this signature.
fn verifies(alg: &str, jwk: &Value, signature: &[u8]) -> bool {
    let key = json!({ "kid": "k", "alg": alg, "typ": "at+jwt", "iss": "i", "jwk": jwk });
    let document = json!({ "version": 1, "keys": [key] }).to_string();
    check_document(document.as_bytes());
    let Ok(ring) = KeyRing::from_json(document.as_bytes()) else { return false };
    let clock = || UNIX_EPOCH + Duration::from_secs(NOW);
    let guard: JwtGuard<UserClaims> = JwtGuard::new(JwtConfig::ring(ring).issuer("i").clock(clock)).expect("a guard");
    let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "typ": "at+jwt", "kid": "k" }).to_string());
    guard.verify(&format!("{header}.{}.{}", *CLAIMS, URL_SAFE_NO_PAD.encode(signature))).is_ok()
}

fuzz_target!(|input: (&[u8], [u8; 2], &[u8], &[u8], &str)| {
    let (document, [key, nonce], first, second, text) = input;
    check_document(document);

    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signature = [point(nonce, first), point(u8::MAX, second)].concat();
    let edwards = json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(&point(key, second)) });
    assert!(!verifies("EdDSA", &edwards, &signature));
    let curve = json!({ "kty": "EC", "crv": "P-256", "x": b64(&point(key, first)), "y": b64(&point(nonce, second)) });
    assert!(!verifies("ES256", &curve, &signature));
    let modulus = json!({ "kty": "RSA", "n": b64(first), "e": b64(second) });
    assert!(!verifies("RS256", &modulus, first));

    if let Ok(secret) = SecretKey::new("SECRET", text) {
        assert!(text.len() >= 32);
        assert!(!format!("{secret:?}").contains(text));
    }
});
