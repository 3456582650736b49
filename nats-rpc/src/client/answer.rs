use async_nats::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::{CallError, RemoteError};
use crate::decode::from_json;
use crate::wire;

/// The body of an error reply, as far as it has the fields of this crate's errors.
#[derive(Default, Deserialize)]
struct ErrorBody {
    code: Option<String>,
    message: Option<String>,
    details: Option<Box<RawValue>>,
}

/// Reads a reply in the native dialect.
///
/// # Errors
/// [`CallError::Remote`] if the headers mark the reply as an error, [`CallError::Decode`] if its body is not an `R`.
pub(crate) fn decode<R: DeserializeOwned>(headers: Option<&HeaderMap>, body: &[u8]) -> Result<R, CallError> {
    if let Some(error) = headers.and_then(|headers| remote_error(headers, body)) {
        return Err(CallError::Remote(error));
    }
    // Other implementations of the protocol send "nothing" as an empty body.
    let body = if body.is_empty() { b"null" } else { body };
    from_json(body).map_err(CallError::Decode)
}

/// Returns the error that the headers of a reply describe.
pub(super) fn remote_error(headers: &HeaderMap, body: &[u8]) -> Option<RemoteError> {
    let status = headers.get(wire::ERROR_CODE.clone());
    let text = headers.get(wire::ERROR.clone());
    if status.is_none() && text.is_none() {
        return None;
    }
    let status = status.and_then(|status| status.as_str().parse().ok()).unwrap_or(500);
    let body: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
    let message = body.message.or_else(|| text.map(|text| text.as_str().to_owned())).unwrap_or_default();
    Some(RemoteError { status, name: body.code, message, details: body.details })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(code: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(wire::ERROR.clone(), "from the header");
        headers.insert(wire::ERROR_CODE.clone(), code);
        headers
    }

    #[test]
    fn an_error_is_known_by_its_headers_and_explained_by_its_body() {
        let body = br#"{"code":"NOT_FOUND","message":"gone","details":{"id":7}}"#;
        let Err(CallError::Remote(error)) = decode::<u8>(Some(&headers("404")), body) else { panic!("no error") };
        assert_eq!((error.status(), error.message()), (404, "gone"));
        assert_eq!(error.details().unwrap().get(), r#"{"id":7}"#);
        for body in [&b""[..], b"nonsense", b"[]"] {
            let Err(CallError::Remote(error)) = decode::<u8>(Some(&headers("x")), body) else { panic!("no error") };
            assert_eq!((error.status(), error.message()), (500, "from the header"));
        }
    }

    #[test]
    fn an_empty_answer_is_nothing() {
        assert!(decode::<()>(None, b"").is_ok());
        assert!(matches!(decode::<u8>(None, b""), Err(CallError::Decode(_))));
        assert_eq!(decode::<u8>(None, b"7").unwrap(), 7);
    }
}
