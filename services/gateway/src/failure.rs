//! Errors as HTTP responses: a status, and `{code, message, details?}`.

use std::borrow::Cow;
use std::error::Error;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use nats_rpc::{CallError, Code, RpcError};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The response to a request that fails.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    code: &'static str,
    message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Box<RawValue>>,
}

impl Failure {
    /// An HTTP error that has no service error code.
    pub(crate) fn http(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, body: Body { code, message: message.into(), details: None } }
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        if error.code() == Code::Internal {
            tracing::error!(error = error.source(), "the request failed");
        }
        let status = StatusCode::from_u16(error.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let message = error.message().to_owned().into();
        let body = Body { code: error.code().as_str(), message, details: error.details().map(ToOwned::to_owned) };
        Self { status, body }
    }
}

/// A service's error passes through; a missing service is 503, a late reply 504, an unreadable reply 500.
impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        RpcError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let unauthenticated = self.status == StatusCode::UNAUTHORIZED;
        let retry_after = self.body.details.as_deref().and_then(retry_after);
        let mut response = (self.status, Json(self.body)).into_response();
        if unauthenticated {
            // RFC 9110, section 15.5.2: a 401 says how to authenticate.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Returns whole seconds, rounded up: a caller that comes too early would be throttled again.
fn retry_after(details: &RawValue) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        retry_after_ms: u64,
    }
    serde_json::from_str(details.get()).ok().map(|Details { retry_after_ms }| retry_after_ms.div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_that_say_when_to_come_again_are_a_header_too() {
        let failure = |details| Failure::from(RpcError::resource_exhausted("m").with_details(details)).into_response();
        let response = failure(serde_json::json!({ "retryAfterMs": 1_001 }));
        assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (429, &HeaderValue::from(2)));
        assert!(!failure(serde_json::json!({ "other": 1 })).headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn every_code_has_its_status_and_a_cause_stays_inside() {
        for code in [
            Code::InvalidArgument,
            Code::Unauthenticated,
            Code::PermissionDenied,
            Code::NotFound,
            Code::Conflict,
            Code::PayloadTooLarge,
            Code::ResourceExhausted,
            Code::Unavailable,
            Code::DeadlineExceeded,
        ] {
            let failure = Failure::from(RpcError::new(code, "m"));
            assert_eq!((failure.status.as_u16(), failure.body.code), (code.status(), code.as_str()));
        }
        let failure = Failure::from(RpcError::internal("password=hunter2"));
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!serde_json::to_string(&failure.body).unwrap().contains("hunter2"));
    }
}
