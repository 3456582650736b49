//! Middleware around every route: a request id, a span, a timeout, a check of the request's head, and one completion
//! line in the log.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use nats_rpc::RpcError;
use tracing::Instrument;
use uuid::Uuid;

use crate::failure::Failure;
use crate::head;

pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id accepted from a caller, in bytes.
const MAX_ID_BYTES: usize = 64;

/// The id of a request: the caller's, or a new one. It is safe in a header and in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl RequestId {
    /// Returns the caller's id if it is one short word, otherwise a new one.
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(&REQUEST_ID).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(id), None) if is_word(id) => Self(id.to_owned()),
            _ => Self(Uuid::now_v7().to_string()),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_word(id: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Responds within `limit`, whatever the inner service does.
pub(crate) async fn surround(State(limit): State<Duration>, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let span = tracing::debug_span!("http", id = id.as_str(), method = %request.method(), path = request.uri().path());
    request.extensions_mut().insert(id.clone());
    let started = Instant::now();
    let answered = async {
        let answer = async {
            match head::check(&request) {
                Ok(()) => next.run(request).await,
                Err(failure) => failure.into_response(),
            }
        };
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let mut response = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => Failure::from(RpcError::internal(text(&*panic))).into_response(),
            Err(_) => Failure::from(RpcError::deadline_exceeded("the request took too long")).into_response(),
        };
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(id.as_str()) {
            headers.insert(REQUEST_ID.clone(), id);
        }
        // Responses contain tokens and personal data.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let duration_us = started.elapsed().as_micros() as u64;
        tracing::debug!(status = response.status().as_u16(), duration_us, "finished");
        response
    };
    answered.instrument(span).await
}

fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a panic: {}", text.unwrap_or("no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(values: &[&[u8]]) -> String {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(REQUEST_ID.clone(), HeaderValue::from_bytes(value).unwrap());
        }
        RequestId::of(&headers).0
    }

    #[test]
    fn a_callers_id_is_kept_if_it_is_one_short_word() {
        assert_eq!(id(&[b"order-7_a.b"]), "order-7_a.b");
        let others: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"two words"], &[b"a", b"a"], &[b"caf\xc3\xa9"], &[b"a\tb"], &[&[b'a'; 65]]];
        for other in others {
            let new = id(other);
            assert_eq!(Uuid::parse_str(&new).unwrap().get_version_num(), 7, "{other:?}");
        }
    }
}
