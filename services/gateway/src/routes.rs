//! The routes, and the subject that each of them calls.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Router, middleware};
use nats_rpc::RpcError;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use crate::body::Json;
use crate::call::{Anonymous, Authenticated, Calls};
use crate::cors::Origins;
use crate::device::KnownDevice;
use crate::failure::Failure;
use crate::subjects::Called;
use crate::surround::surround;

/// Timeout of the round trip of `/readyz`.
const ECHO_LIMIT: Duration = Duration::from_secs(1);

type Answer = Result<Response, Failure>;

pub(crate) fn router(calls: Calls, timeout: Duration, body_limit: usize, origins: Origins) -> Router {
    let router = Router::new()
        .route("/api/auth/signup", post(sign_up))
        .route("/api/auth/login", post(log_in))
        .route("/api/auth/refresh", post(refresh))
        .route("/api/auth/logout", post(log_out))
        .route("/api/auth/logout-all", post(log_out_everywhere))
        .route("/api/auth/sessions", get(sessions))
        .route("/api/auth/sessions/{id}", delete(end_session))
        .route("/api/auth/password/change", post(change_password))
        .route("/api/auth/password/reset/request", post(request_reset))
        .route("/api/auth/password/reset/confirm", post(confirm_reset))
        .route("/api/users/profile", post(profile))
        .route("/api/users/me", get(me))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(body_limit));
    let router = match origins.layer() {
        Some(cors) => router.layer(cors),
        None => router,
    };
    // The last layer is the outermost one: it applies to every response.
    router.layer(middleware::from_fn_with_state(timeout, surround)).with_state(calls)
}

/// Serializes a secret for the auth service; no other code of the gateway can expose it.
fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

#[derive(Deserialize, Serialize)]
struct Credentials {
    email: String,
    #[serde(serialize_with = "expose")]
    password: SecretString,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RefreshToken {
    #[serde(serialize_with = "expose")]
    refresh_token: SecretString,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct PasswordChange {
    #[serde(serialize_with = "expose")]
    current_password: SecretString,
    #[serde(serialize_with = "expose")]
    new_password: SecretString,
}

#[derive(Deserialize, Serialize)]
struct ResetRequest {
    email: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ResetConfirmation {
    #[serde(serialize_with = "expose")]
    token: SecretString,
    #[serde(serialize_with = "expose")]
    new_password: SecretString,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionId {
    session_id: String,
}

/// The user whose profile is requested; the caller if the field is absent. The gateway reads no other field of the
/// body, such as a forged `user`.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct GetProfile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}

async fn sign_up(call: Anonymous, device: KnownDevice, Json(body): Json<Credentials>) -> Answer {
    device.send(call.0, Called::SIGN_UP, &body, StatusCode::CREATED).await
}

async fn log_in(call: Anonymous, device: KnownDevice, Json(body): Json<Credentials>) -> Answer {
    device.send(call.0, Called::LOG_IN, &body, StatusCode::OK).await
}

async fn refresh(call: Anonymous, Json(body): Json<RefreshToken>) -> Answer {
    call.send(Called::REFRESH, &body, StatusCode::OK).await
}

async fn log_out(call: Anonymous, Json(body): Json<RefreshToken>) -> Answer {
    call.send(Called::LOG_OUT, &body, StatusCode::OK).await
}

async fn change_password(call: Authenticated, device: KnownDevice, Json(body): Json<PasswordChange>) -> Answer {
    device.send(call.0, Called::CHANGE_PASSWORD, &body, StatusCode::OK).await
}

async fn request_reset(call: Anonymous, Json(body): Json<ResetRequest>) -> Answer {
    call.send(Called::REQUEST_RESET, &body, StatusCode::OK).await
}

async fn confirm_reset(call: Anonymous, Json(body): Json<ResetConfirmation>) -> Answer {
    call.send(Called::CONFIRM_RESET, &body, StatusCode::OK).await
}

async fn log_out_everywhere(call: Authenticated) -> Answer {
    call.send(Called::LOG_OUT_EVERYWHERE, &Nothing {}).await
}

async fn sessions(call: Authenticated) -> Answer {
    call.send(Called::SESSIONS, &Nothing {}).await
}

async fn end_session(call: Authenticated, id: Result<Path<String>, PathRejection>) -> Answer {
    let Path(session_id) = id.map_err(|_| RpcError::invalid_argument("the session's id is not UTF-8"))?;
    call.send(Called::END_SESSION, &SessionId { session_id }).await
}

async fn profile(call: Authenticated, Json(body): Json<GetProfile>) -> Answer {
    call.send(Called::PROFILE, &body).await
}

async fn me(call: Authenticated) -> Answer {
    call.send(Called::PROFILE, &GetProfile::default()).await
}

async fn healthz() -> axum::Json<Health> {
    axum::Json(Health { status: "ok" })
}

async fn readyz(State(calls): State<Calls>) -> Answer {
    calls.check_guard()?;
    match calls.client.connection().round_trip(ECHO_LIMIT).await {
        Ok(_) => Ok(axum::Json(Health { status: "ready" }).into_response()),
        Err(error) => {
            tracing::debug!(%error, "not ready");
            Err(RpcError::unavailable("no connection to nats-server").into())
        }
    }
}

async fn no_such_route() -> Failure {
    RpcError::not_found("no such route").into()
}

async fn no_such_method() -> Failure {
    Failure::http(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this route has another method")
}
