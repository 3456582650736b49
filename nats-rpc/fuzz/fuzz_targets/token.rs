#![no_main]
//! A token of any text: never a panic, and never a way in; signed, only if its header and claims allow it.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::sign;
use jsonwebtoken::{Algorithm, EncodingKey};
use libfuzzer_sys::fuzz_target;
use nats_rpc_jwt::{JwtConfig, JwtGuard, SecretKey, UserClaims};
use serde_json::Value;

const SECRET: &str = "a secret of the issuer and its verifiers 0123456789";
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Ends in the year 2100.
const CLAIMS: &str = r#"{"sub":"ada","iat":1,"exp":4102444800}"#;
/// How far the clocks of issuer and verifier may be apart, in seconds.
const LEEWAY: f64 = 5.0;

static GUARD: LazyLock<JwtGuard<UserClaims>> = LazyLock::new(|| {
    let secret = SecretKey::new("JWT_SECRET", SECRET).expect("a secret");
    JwtGuard::new(JwtConfig::nest_compatible(secret)).expect("a guard")
});

/// Signs `header` and `claims` as the issuer would, whatever they are.
fn signed(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    format!("{message}.{signature}")
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs_f64()
}

fuzz_target!(|texts: (&str, &str)| {
    let (header, claims) = texts;
    assert!(GUARD.verify(header).is_err());
    assert!(GUARD.verify(&format!("{header}.{claims}")).is_err());
    if GUARD.verify(&signed(header, CLAIMS)).is_ok() {
        let header: Value = serde_json::from_str(header).expect("the header is JSON");
        assert_eq!(header["alg"], "HS256");
    }
    if let Ok(accepted) = GUARD.verify(&signed(HEADER, claims)) {
        let claims: Value = serde_json::from_str(claims).expect("the claims are JSON");
        assert_eq!(claims["sub"], accepted.sub.as_str());
        assert!(!accepted.sub.is_empty());
        assert!(claims["exp"].as_f64().is_some_and(|end| end > now() - LEEWAY - 1.0));
    }
    let _ = GUARD.verify(&signed(header, claims));
});
