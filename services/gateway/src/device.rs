//! The cookie that identifies a device at the next log-in.

use std::convert::Infallible;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{COOKIE, HeaderValue, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use nats_rpc::Internal;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::call::Outgoing;
use crate::failure::Failure;
use crate::subjects::Called;

/// The header in which the auth service accepts a device token.
const DEVICE_HEADER: &str = "nrpc-device";
/// The prefix prevents other hosts of the domain, and pages without TLS, from setting the cookie.
const COOKIE_NAME: &str = "__Host-device";
/// The maximum that browsers keep a cookie; the token itself has its own expiry.
const MAX_AGE_SECONDS: u32 = 400 * 86_400;
/// The maximum length of a token, with room for later formats.
const MAX_TOKEN_BYTES: usize = 256;

/// The device token of a request, if the request has one.
///
/// Only the auth service can verify it. Scripts cannot read it, and it replaces no password.
pub(crate) struct KnownDevice(Option<String>);

/// The reply to a log-in.
struct Reply {
    /// The device token, which the gateway puts into the cookie.
    device: Option<String>,
    /// The rest, which the gateway puts into the body.
    body: Box<RawValue>,
}

impl Reply {
    /// Takes the device token out of a reply; a reply without a token passes unchanged.
    fn take(body: Box<RawValue>) -> Self {
        let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(body.get()) else {
            return Self { device: None, body };
        };
        match (fields.remove("deviceToken"), to_raw_value(&fields)) {
            (Some(Value::String(token)), Ok(body)) => Self { device: Some(token), body },
            _ => Self { device: None, body },
        }
    }
}

impl KnownDevice {
    /// Makes a call that begins a session, and responds with `status`, its tokens and the cookie.
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
        let Reply { device, body } = Reply::take(call.fetch(called, body).await?);
        let cookie = device.as_deref().map(cookie).transpose()?;
        let mut response = (status, Json(body)).into_response();
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

/// Returns the only token in the cookies; `None` for several, or for a value that has not the form of a token.
fn token(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value);
    let value = values.next().filter(|value| is_token(value))?;
    values.next().is_none().then(|| value.to_owned())
}

/// Returns `true` if a text is safe in a header and in a cookie.
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
        let take = |reply: &str| {
            let Reply { device, body } = Reply::take(RawValue::from_string(reply.to_owned()).unwrap());
            (device, body.get().to_owned())
        };
        let (device, body) = take(r#"{"accessToken":"a","deviceToken":"d","refreshToken":"r"}"#);
        assert_eq!((device.as_deref(), body.as_str()), (Some("d"), r#"{"accessToken":"a","refreshToken":"r"}"#));
        for other in [r#"{"z":1,"a":2}"#, r#"{"deviceToken":null}"#, "null", "[1, 2]"] {
            assert_eq!(take(other), (None, other.to_owned()));
        }
    }
}
