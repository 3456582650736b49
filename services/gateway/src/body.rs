//! The request's JSON.

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use nats_rpc::RpcError;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The request's body, read into the fields of `T` and no others.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let axum::Json(body) =
            axum::Json::from_request(request, state).await.map_err(|rejection| failure(&rejection))?;
        Ok(Self(body))
    }
}

fn failure(rejection: &JsonRejection) -> Failure {
    match rejection {
        JsonRejection::MissingJsonContentType(_) => Failure::http(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "UNSUPPORTED_MEDIA_TYPE",
            "send JSON, with the header `content-type: application/json`",
        ),
        JsonRejection::BytesRejection(_) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            RpcError::payload_too_large("the request's body is too large").into()
        }
        _ => RpcError::invalid_argument(rejection.body_text()).into(),
    }
}
