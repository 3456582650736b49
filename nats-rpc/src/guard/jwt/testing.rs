//! What the tests of this folder share: a fixed time, a secret, tokens to order, requests.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::signing::choose_back_end;
use super::{JwtConfig, SecretKey};
use crate::message::Request;

/// The time of every test.
pub(crate) const NOW: u64 = 1_800_000_000;
/// The secret of access tokens.
pub(crate) const SECRET: &[u8] = b"access-secret-0123456789-abcdefgh";

pub(crate) fn now() -> SystemTime {
    at(NOW)
}

pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub(crate) fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", SECRET).unwrap()
}

/// Access tokens of [`SECRET`] at [`NOW`].
pub(crate) fn config() -> JwtConfig {
    JwtConfig::hs256(secret()).clock(now)
}

/// The claims of a good access token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": "nats-rpc-auth", "aud": "nats-rpc", "sub": "u1", "iat": NOW, "exp": NOW + 900,
        "jti": "j1", "sid": "s1", "ep": 0, "roles": ["user"], "scope": "profile:read",
    })
}

/// [`claims`] with `changes` merged in; a `null` removes a claim.
pub(crate) fn claims_with(changes: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims(), changes) else { panic!("not objects") };
    claims.extend(changes);
    claims.retain(|_, claim| !claim.is_null());
    Value::Object(claims)
}

/// A token of exactly this header and payload, signed as `algorithm` whatever the header says.
pub(crate) fn sign(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    choose_back_end();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

/// A token of exactly this header and payload, signed with [`SECRET`].
pub(crate) fn raw_token(header: &str, payload: &str) -> String {
    sign(header, payload, &EncodingKey::from_secret(SECRET), Algorithm::HS256)
}

pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;

/// An access token of these claims.
pub(crate) fn token(claims: &Value) -> String {
    raw_token(HEADER, &claims.to_string())
}

/// What is logged, at any level, while its subscriber is the default.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let log = self.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone()).finish()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn request(subject: &str, headers: &[(&'static str, &str)], data: &str) -> Request {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    Request::new(subject.into(), Some(map), Some(data.to_owned().into()), deadline)
}
