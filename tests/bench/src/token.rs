//! The token of guarded requests, as stock `@nestjs/jwt` issues them, some 220 bytes long.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

pub(crate) const SECRET: &str = "a secret for benches alone, 32 bytes and more";
pub(crate) const SUBJECT: &str = "0192f0c1-5b7a-7c3e-9d41-2f6a8be01c55";

#[derive(Serialize)]
struct Claims {
    sub: &'static str,
    scope: &'static str,
    iat: u64,
    exp: u64,
}

/// Issues a token with a lifetime of one day.
pub(crate) fn issue() -> Result<String, Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims { sub: SUBJECT, scope: "profile:read", iat: now, exp: now + 24 * 60 * 60 };
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_token_has_the_size_of_the_others() {
        let size = super::issue().expect("a token").len();
        assert!((210..=230).contains(&size), "{size} bytes");
    }
}
