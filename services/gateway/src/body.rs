//! The request's JSON.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use mime::Mime;
use nats_rpc::{RpcError, from_json};
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The request's body, a JSON object, read into the fields of `T` and no others.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        if !is_json(request.headers()) {
            let why = "send JSON in UTF-8, with the header `content-type: application/json`";
            return Err(Failure::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE", why));
        }
        let body = Bytes::from_request(request, state).await.map_err(unread)?;
        let unusable = |error| RpcError::invalid_argument(format!("the body cannot be used: {error}"));
        Ok(Self(from_json(&body).map_err(unusable)?))
    }
}

/// Returns `true` if the only content type is JSON. JSON is UTF-8 (RFC 8259, section 8.1), so other charsets are not.
fn is_json(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_TYPE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Some(mime) = line.to_str().ok().and_then(|line| line.parse::<Mime>().ok()) else { return false };
    let is_json = mime.subtype() == mime::JSON || mime.suffix() == Some(mime::JSON);
    let mut charsets = mime.params().filter(|(name, _)| *name == mime::CHARSET);
    mime.type_() == mime::APPLICATION && is_json && charsets.all(|(_, charset)| charset == mime::UTF_8)
}

fn unread(rejection: BytesRejection) -> Failure {
    match rejection.into_response().status() {
        StatusCode::PAYLOAD_TOO_LARGE => RpcError::payload_too_large("the request's body is too large").into(),
        _ => RpcError::invalid_argument("the request's body did not arrive as a whole").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(lines: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_TYPE, line.parse().unwrap());
        }
        is_json(&headers)
    }

    #[test]
    fn content_type_is_json_in_utf_8() {
        for good in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/problem+json",
            "application/json; profile=x",
        ] {
            assert!(is_taken(&[good]), "{good}");
        }
        for wrong in [
            "application/json; charset=utf-16",
            "application/json; charset=latin1",
            "application/json; charset=utf-8; charset=utf-16",
            "text/json",
            "text/plain",
            "application/jsonp",
            "application/x-www-form-urlencoded",
            "application/json, text/plain",
            "json",
            "",
        ] {
            assert!(!is_taken(&[wrong]), "{wrong}");
        }
        assert!(!is_taken(&[]) && !is_taken(&["application/json", "application/json"]));
    }
}
