//! Test helpers: a fixed time, a secret, and tokens.

#[cfg(test)]
use std::io::{self, Write};
#[cfg(test)]
use std::sync::{Arc, Mutex};
#[cfg(test)]
use std::time::Instant;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
#[cfg(test)]
use nats_rpc::Request;
use serde_json::{Value, json};

use super::signing::choose_back_end;
use super::{JwtConfig, SecretKey};

/// The time in every test.
pub const NOW: u64 = 1_800_000_000;
/// The secret of access tokens.
pub const SECRET: &[u8] = b"access-secret-0123456789-abcdefgh";

/// Returns [`NOW`] as a clock's value.
pub fn now() -> SystemTime {
    at(NOW)
}

/// Returns the time `seconds` after 1970.
pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns [`SECRET`] as a key.
///
/// # Panics
/// Never: the secret is long enough.
pub fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", SECRET).expect("a secret that is long enough")
}

/// Returns a configuration for access tokens of [`SECRET`] at [`NOW`].
pub fn config() -> JwtConfig {
    JwtConfig::hs256(secret()).clock(now)
}

/// Returns the claims of a valid access token.
pub fn claims() -> Value {
    json!({
        "iss": "nats-rpc-auth", "aud": "nats-rpc", "sub": "u1", "iat": NOW, "exp": NOW + 900,
        "jti": "j1", "sid": "s1", "ep": 0, "roles": ["user"], "scope": "profile:read",
    })
}

/// Returns [`claims`] with `changes` merged in; a `null` removes a claim.
///
/// # Panics
/// If `changes` is not an object.
pub fn claims_with(changes: Value) -> Value {
    let (Value::Object(mut claims), Value::Object(changes)) = (claims(), changes) else { panic!("not objects") };
    claims.extend(changes);
    claims.retain(|_, claim| !claim.is_null());
    Value::Object(claims)
}

/// Returns a token of exactly this header and payload, signed with `algorithm` whatever the header contains.
pub(crate) fn sign(header: &str, payload: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    choose_back_end();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = crypto::sign(signed.as_bytes(), key, algorithm).expect("a key of that algorithm");
    format!("{signed}.{signature}")
}

/// Returns a token of exactly this header and payload, signed with [`SECRET`].
pub(crate) fn raw_token(header: &str, payload: &str) -> String {
    sign(header, payload, &EncodingKey::from_secret(SECRET), Algorithm::HS256)
}

pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;

/// Returns an access token of these claims.
pub fn token(claims: &Value) -> String {
    raw_token(HEADER, &claims.to_string())
}

/// The log output of all levels, while its subscriber is the default.
#[cfg(test)]
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

#[cfg(test)]
impl Log {
    pub(crate) fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
        let log = self.clone();
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone()).finish()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[cfg(test)]
impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn request(subject: &str, headers: &[(&'static str, &str)], data: &str) -> Request {
    let mut map = async_nats::HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    nats_rpc::testing::request(subject, Some(map), Some(data.to_owned().into()), deadline)
}
