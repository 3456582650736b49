//! The call to a service, and whose it is.

use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use nats_rpc::jwt::Refusal;
use nats_rpc::{Client, JwtGuard, RpcError};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::surround::RequestId;

/// Header by which a request is found again in the logs of all services.
const REQUEST_ID: &str = "x-request-id";

/// What calls are made with.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) client: Client,
    pub(crate) guard: JwtGuard,
    pub(crate) timeout: Duration,
}

/// A call on nobody's behalf.
pub(crate) struct Anonymous(Client);

/// A call on behalf of a caller whose token was verified; the token travels with it.
pub(crate) struct Authenticated(Client);

impl Anonymous {
    /// Calls `subject` and answers `status` with what comes back.
    pub(crate) async fn send(
        self,
        subject: &str,
        body: &impl Serialize,
        status: StatusCode,
    ) -> Result<Response, Failure> {
        answer(&self.0, subject, body, status).await
    }
}

impl Authenticated {
    /// Calls `subject` and answers 200 with what comes back.
    pub(crate) async fn send(self, subject: &str, body: &impl Serialize) -> Result<Response, Failure> {
        answer(&self.0, subject, body, StatusCode::OK).await
    }
}

async fn answer(
    client: &Client,
    subject: &str,
    body: &impl Serialize,
    status: StatusCode,
) -> Result<Response, Failure> {
    let value: Box<RawValue> = client.send(subject, body).await?;
    Ok((status, axum::Json(value)).into_response())
}

impl<S: Send + Sync> FromRequestParts<S> for Anonymous
where
    Calls: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Calls { client, timeout, .. } = Calls::from_ref(state);
        let client = client.timeout(timeout);
        Ok(Self(match parts.extensions.get::<RequestId>() {
            Some(id) => client.header(REQUEST_ID, id.as_str()),
            None => client,
        }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated
where
    Calls: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Anonymous(client) = Anonymous::from_request_parts(parts, state).await?;
        let Calls { guard, .. } = Calls::from_ref(state);
        let token = bearer(&parts.headers)
            .and_then(|token| guard.verify(token).map(|_| token))
            .inspect_err(|refusal| tracing::debug!(%refusal, "token refused"))
            .map_err(RpcError::from)?;
        Ok(Self(client.bearer(token)))
    }
}

/// The token of the one `authorization: Bearer <token>`; the verifier looks at its bytes.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::NoToken)?;
    if values.next().is_some() {
        return Err(Refusal::SeveralValues);
    }
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(Refusal::Scheme)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token) } else { Err(Refusal::Scheme) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[&'static str]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers).map(str::to_owned)
    }

    #[test]
    fn exactly_one_bearer_token_is_taken() {
        assert_eq!(found(&["Bearer a.b.c"]).unwrap(), "a.b.c");
        assert_eq!(found(&["bEARER a.b.c"]).unwrap(), "a.b.c");
        assert_eq!(found(&[]), Err(Refusal::NoToken));
        assert_eq!(found(&["Bearer a.b.c", "Bearer a.b.c"]), Err(Refusal::SeveralValues));
        for value in ["Basic a.b.c", "a.b.c", "Bearer", "", "Bearer\ta.b.c", "Bearer: a.b.c"] {
            assert_eq!(found(&[value]), Err(Refusal::Scheme), "{value:?}");
        }
    }
}
