//! The cookie by which a device is known at the next log-in.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use nats_rpc::Internal;
use serde::{Deserialize, Serialize};

use crate::call::Outgoing;
use crate::failure::Failure;
use crate::subjects::Called;

/// The header in which the auth service takes a device token.
const DEVICE_HEADER: &str = "nrpc-device";
/// The prefix keeps other hosts of the domain, and pages without TLS, from setting the cookie.
const COOKIE_NAME: &str = "__Host-device";
/// As long as browsers keep a cookie: the token itself says how long it is good.
const MAX_AGE_SECONDS: u32 = 400 * 86_400;
/// The length of a token, with room for a later form.
const MAX_TOKEN_BYTES: usize = 256;

/// The device token that a request brings, if it brings one.
///
/// Only the auth service can tell whether it is good. Scripts cannot read it, and it lets nobody in by itself.
pub(crate) struct KnownDevice(Option<String>);

/// The reply to a log-in, whose device token goes into the cookie and not into the body.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    access_token: String,
    refresh_token: String,
    #[serde(default, skip_serializing)]
    device_token: Option<String>,
}

impl KnownDevice {
    /// Makes a call that begins a session, and answers `status` with its tokens and the cookie.
    pub(crate) async fn send(
        self,
        call: Outgoing,
        called: Called,
        body: &impl Serialize,
        status: StatusCode,
    ) -> Result<Response, Failure> {
        let call = match &self.0 {
            Some(token) => call.header(DEVICE_HEADER, token),
            None => call,
        };
        let logged_in: LoggedIn = call.fetch(called, body).await?;
        let cookie = logged_in.device_token.as_deref().map(cookie).transpose()?;
        let mut response = (status, Json(logged_in)).into_response();
        if let Some(cookie) = cookie {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
        Ok(response)
    }
}

impl<S: Sync> FromRequestParts<S> for KnownDevice {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(token(&parts.headers)))
    }
}

/// The one token in the cookies; `None` for several, or for what has not the form of a token.
fn token(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value);
    let value = values.next().filter(|value| is_token(value))?;
    values.next().is_none().then(|| value.to_owned())
}

/// Whether a text is safe in a header and in a cookie.
fn is_token(text: &str) -> bool {
    (1..=MAX_TOKEN_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn cookie(token: &str) -> Result<HeaderValue, Failure> {
    let token = Some(token).filter(|token| is_token(token));
    let token = token.ok_or("the auth service sent a device token that cannot be a cookie").internal()?;
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; Max-Age={MAX_AGE_SECONDS}; HttpOnly; Secure; SameSite=Strict");
    let mut cookie = HeaderValue::try_from(cookie).internal()?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        token(&headers)
    }

    #[test]
    fn exactly_one_token_is_taken_from_the_cookies() {
        assert_eq!(found(&["__Host-device=nrd1.a-b_C"]).as_deref(), Some("nrd1.a-b_C"));
        assert_eq!(found(&["theme=dark; __Host-device=nrd1.a", "lang=de"]).as_deref(), Some("nrd1.a"));
        assert_eq!(found(&["lang=de", "__Host-device=nrd1.a"]).as_deref(), Some("nrd1.a"));
        for none in [
            &[][..],
            &["device=nrd1.a"],
            &["__Host-device=nrd1.a; __Host-device=nrd1.b"],
            &["__Host-device=nrd1.a", "__Host-device=nrd1.a"],
            &["__Host-device="],
            &["__Host-device"],
            &["__Host-device=a b"],
            &["__Host-device=\"nrd1.a\""],
            &["__host-device=nrd1.a"],
        ] {
            assert_eq!(found(none), None, "{none:?}");
        }
        let long = "a".repeat(MAX_TOKEN_BYTES + 1);
        assert!(!is_token(&long) && is_token(&long[1..]));
    }

    #[test]
    fn a_cookie_is_out_of_reach_of_scripts_and_other_sites() {
        let cookie = cookie("nrd1.a").unwrap();
        assert_eq!(
            cookie.to_str().unwrap(),
            "__Host-device=nrd1.a; Path=/; Max-Age=34560000; HttpOnly; Secure; SameSite=Strict"
        );
        assert!(cookie.is_sensitive());
        for wrong in ["", "a; Domain=example.com", "a\r\nb"] {
            assert!(super::cookie(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_body_shows_the_device_token() {
        let reply = r#"{"userId":"u","accessToken":"a","refreshToken":"r","deviceToken":"d"}"#;
        let logged_in: LoggedIn = serde_json::from_str(reply).unwrap();
        let body = serde_json::to_string(&logged_in).unwrap();
        assert_eq!(body, r#"{"userId":"u","accessToken":"a","refreshToken":"r"}"#);
    }
}
