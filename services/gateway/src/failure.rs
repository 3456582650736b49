//! Errors as answers: a status, and `{code, message, details?}`.

use std::borrow::Cow;
use std::error::Error;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use nats_rpc::{CallError, Code, RpcError};
use serde::Serialize;
use serde_json::value::RawValue;

/// What a request is answered with when it fails.
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
    /// An error of HTTP alone, for which services have no code.
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

/// A service's error passes through; no service is 503, a late one 504, an unreadable answer 500.
impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        RpcError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let unauthenticated = self.status == StatusCode::UNAUTHORIZED;
        let mut response = (self.status, Json(self.body)).into_response();
        if unauthenticated {
            // RFC 9110, section 15.5.2: a 401 says how to authenticate.
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
