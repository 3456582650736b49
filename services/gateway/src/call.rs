//! The call to a service, and the caller on whose behalf it is made.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use nats_rpc::{Client, Guard, Internal, Readiness, RpcError};
use nats_rpc_jwt::{AssertionSigner, CLIENT_IP_HEADER, ClientIpSigner, JwtRejection};
use nats_rpc_jwt::{JwtGuard, UserClaims};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::failure::Failure;
use crate::peer::Proxies;
use crate::subjects::Called;
use crate::surround::RequestId;
use crate::trust::{Signers, Trusted};

/// Header that identifies a request in the logs of all services.
const REQUEST_ID: &str = "x-request-id";
/// Headers of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
/// Header of the gateway's signed assertion about a caller.
const ASSERTION: &str = "nrpc-assert";

/// Clients, guard and signers that calls are made with.
#[derive(Clone, Debug)]
pub(crate) struct Calls {
    pub(crate) client: Client,
    guard: JwtGuard,
    /// `None` if the guard depends on nothing that may be missing.
    readiness: Option<Readiness>,
    /// If set, the gateway signs assertions about callers instead of passing their tokens on.
    signer: Option<Arc<AssertionSigner>>,
    timeout: Duration,
    proxies: Proxies,
    /// Proves the client's IP address to the auth service; without it, the gateway sends no proof.
    peers: Option<Arc<ClientIpSigner>>,
}

impl Calls {
    pub(crate) fn new(
        client: Client,
        Trusted { guard, signers }: Trusted,
        proxies: Proxies,
        peers: Option<Arc<ClientIpSigner>>,
        timeout: Duration,
    ) -> Self {
        let Signers { callers, peers: own } = signers;
        let peers = peers.or_else(|| own.map(Arc::new));
        let readiness = guard.readiness();
        Self { client, guard, readiness, signer: callers.map(Arc::new), timeout, proxies, peers }
    }

    /// Checks whether the guard can verify tokens now.
    ///
    /// # Errors
    /// 503 if there is no key to verify tokens with.
    pub(crate) fn check_guard(&self) -> Result<(), RpcError> {
        self.readiness.as_ref().map_or(Ok(()), Readiness::check).map_err(|reason| {
            tracing::debug!(%reason, "not ready");
            RpcError::unavailable("no key to verify tokens with")
        })
    }
}

/// A call without a verified caller.
pub(crate) struct Anonymous(pub(crate) Outgoing);

/// A call on behalf of a caller whose token was verified.
pub(crate) struct Authenticated(pub(crate) Outgoing);

/// A call to make, with the proofs of its origin and of its caller.
pub(crate) struct Outgoing {
    client: Client,
    origin: Option<(IpAddr, Arc<ClientIpSigner>)>,
    /// The caller and the signer of an assertion, if an assertion replaces the token.
    vouched: Option<(Arc<UserClaims>, Arc<AssertionSigner>)>,
}

impl Anonymous {
    /// Calls the subject and responds with `status` and the reply.
    pub(crate) async fn send(
        self,
        called: Called,
        body: &impl Serialize,
        status: StatusCode,
    ) -> Result<Response, Failure> {
        self.0.send(called, body, status).await
    }
}

impl Authenticated {
    /// Calls the subject and responds with 200 and the reply.
    pub(crate) async fn send(self, called: Called, body: &impl Serialize) -> Result<Response, Failure> {
        self.0.send(called, body, StatusCode::OK).await
    }
}

impl Outgoing {
    async fn send(self, called: Called, body: &impl Serialize, status: StatusCode) -> Result<Response, Failure> {
        let value: Box<RawValue> = self.fetch(called, body).await?;
        Ok((status, axum::Json(value)).into_response())
    }

    /// Returns the same call with a header.
    pub(crate) fn header(self, name: &str, value: &str) -> Self {
        Self { client: self.client.header(name, value), ..self }
    }

    /// Calls the subject and decodes the reply.
    pub(crate) async fn fetch<T: DeserializeOwned>(self, called: Called, body: &impl Serialize) -> Result<T, Failure> {
        let subject = called.subject();
        // Serialized once, since the proofs of origin and caller are bound to exactly these bytes.
        let data = to_raw_value(body).internal()?;
        let mut client = self.client;
        if let Some((address, peers)) = self.origin
            && called.counts_attempts()
        {
            client = client.header(CLIENT_IP_HEADER, peers.sign(address, subject, data.get().as_bytes())?);
        }
        if let Some((caller, signer)) = self.vouched {
            client = client.header(ASSERTION, signer.sign(&caller, subject, data.get().as_bytes())?);
        }
        Ok(client.send(subject, &data).await?)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Anonymous
where
    Calls: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Calls { client, timeout, proxies, peers, .. } = Calls::from_ref(state);
        let client = client.timeout(timeout);
        let client = match parts.extensions.get::<RequestId>() {
            Some(id) => client.header(REQUEST_ID, id.as_str()),
            None => client,
        };
        let client = traced(client, &parts.headers);
        Ok(Self(Outgoing { client, origin: proxies.origin(parts).zip(peers), vouched: None }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated
where
    Calls: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Anonymous(call) = Anonymous::from_request_parts(parts, state).await?;
        let Calls { guard, signer, .. } = Calls::from_ref(state);
        let verified = async {
            let token = bearer(&parts.headers)?;
            Ok((token, guard.verify_async(token).await?))
        };
        let (token, caller) = verified
            .await
            .inspect_err(|refusal: &JwtRejection| tracing::debug!(%refusal, "token refused"))
            .map_err(RpcError::from)?;
        Ok(Self(match signer {
            Some(signer) => Outgoing { vouched: Some((caller, signer)), ..call },
            None => Outgoing { client: call.client.bearer(token), ..call },
        }))
    }
}

/// Returns the same client, whose calls continue the trace of the HTTP request, if its headers name exactly one.
fn traced(client: Client, headers: &HeaderMap) -> Client {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let (Some(parent), None) = (parents.next().and_then(text), parents.next()) else { return client };
    // Several lines are one list (RFC 9110, section 5.3).
    let state: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(text).collect();
    client.continue_trace(&parent, &state.join(","))
}

/// Returns the token of the only `authorization: Bearer <token>`; the verifier checks its bytes.
fn bearer(headers: &HeaderMap) -> Result<&str, JwtRejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(JwtRejection::NoToken)?;
    if values.next().is_some() {
        return Err(JwtRejection::SeveralValues);
    }
    let (scheme, token) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or(JwtRejection::Scheme)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token) } else { Err(JwtRejection::Scheme) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(values: &[&'static str]) -> Result<String, JwtRejection> {
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
        assert_eq!(found(&[]), Err(JwtRejection::NoToken));
        assert_eq!(found(&["Bearer a.b.c", "Bearer a.b.c"]), Err(JwtRejection::SeveralValues));
        for value in ["Basic a.b.c", "a.b.c", "Bearer", "", "Bearer\ta.b.c", "Bearer: a.b.c"] {
            assert_eq!(found(&[value]), Err(JwtRejection::Scheme), "{value:?}");
        }
    }
}
