//! The demo's walk succeeds on the system as it is, and fails where a guard is missing.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine;
use demo::{Options, Report, System, walk};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client};
use nats_rpc_tests::server;
use serde_json::{Value, json};
use users::{Profile, UserId, Users};

use crate::support::{client, nats, soon};

/// The names of the steps that fail.
async fn failing(options: Options) -> Vec<&'static str> {
    let mut report = Report::silent();
    let system = soon(System::start(options, &mut report)).await.unwrap();
    walk(&system, &mut report).await;
    system.stop().await;
    assert!(report.steps() > 25, "the walk ended early, after {:?}", report.failed());
    report.failed().to_vec()
}

#[tokio::test]
async fn the_walk_succeeds() {
    let server = server();
    assert_eq!(failing(Options::new(nats(&server))).await, [""; 0]);
}

/// Whose profile: the one that the data names, or the one that the token claims, verified by nobody.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    user_id: Option<String>,
}

fn claimed(headers: &Headers) -> Option<String> {
    let payload = headers.get("authorization")?.split('.').nth(1)?;
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    Some(claims["sub"].as_str()?.to_owned())
}

async fn find(users: &Users, id: Option<String>) -> Result<Profile, RpcError> {
    let id = id.as_deref().and_then(UserId::parse).ok_or_else(|| RpcError::invalid_argument("no id"))?;
    users.find(id).await?.ok_or_else(|| RpcError::not_found("no such user"))
}

#[message_pattern("get_user_profile")]
async fn unguarded(
    State(users): State<Users>,
    headers: Headers,
    Payload(wanted): Payload<Wanted>,
) -> Result<Profile, RpcError> {
    find(&users, wanted.user_id.or_else(|| claimed(&headers))).await
}

#[message_pattern("users.{id}.get")]
async fn unguarded_by_subject(State(users): State<Users>, Param(id): Param<String>) -> Result<Profile, RpcError> {
    find(&users, Some(id)).await
}

#[tokio::test]
async fn the_walk_fails_where_users_has_no_guard() {
    let server = server();
    let options = Options::new(nats(&server)).users(|| {
        Service::new("users", "1.0.0")
            .handlers(handlers![unguarded, unguarded_by_subject])
            .provide_with(|config| async move { Users::open(config.connection()).await })
    });
    let expected = [
        "no token over NATS",
        "forged token over NATS",
        "refresh token as access token over NATS",
        "someone else's profile over HTTP",
        "someone else's profile over NATS",
        "someone else's profile by its subject",
        "spoofed user in place of a token",
        "stolen refresh token",
        "access token after log-out",
        "log-out everywhere",
        "token of the retired key over NATS",
    ];
    assert_eq!(failing(options).await, expected);
}

/// Passes everything on, and verifies nothing.
async fn pass_on(
    Shared(client): Shared<Client>,
    Path((group, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let subject =
        if group == "auth" { format!("auth.{}", name.replace('-', "_")) } else { "get_user_profile".to_owned() };
    let client = match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some(value) => client.header("authorization", value),
        None => client,
    };
    let Ok(body) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    match client.send::<Value>(subject, &body).await {
        Ok(answer) => {
            let status = if name == "signup" { StatusCode::CREATED } else { StatusCode::OK };
            (status, Json(answer)).into_response()
        }
        Err(CallError::Remote(error)) => {
            let status = StatusCode::from_u16(error.status()).unwrap();
            (status, Json(json!({ "code": error.code().map(Code::as_str) }))).into_response()
        }
        Err(error) => panic!("{error}"),
    }
}

async fn unguarded_gateway(server: &NatsServer) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = client(server).await;
    let router = Router::new().route("/api/{group}/{name}", post(pass_on)).with_state(client);
    tokio::spawn(axum::serve(listener, router).into_future());
    url
}

#[tokio::test]
async fn the_walk_fails_where_the_gateway_verifies_nothing() {
    let server = server();
    let options = Options::new(nats(&server)).gateway_url(unguarded_gateway(&server).await);
    let expected = ["no token over HTTP", "forged token over HTTP", "refresh token as access token over HTTP"];
    assert_eq!(failing(options).await, expected);
}

#[tokio::test]
async fn the_system_does_not_start_beside_services_that_answer_in_its_place() {
    let server = server();
    #[message_pattern("auth.login")]
    async fn log_in() {}
    let _other = Service::new("auth", "1.0.0").handlers(handlers![log_in]).start(nats(&server)).await.unwrap();
    let mut report = Report::silent();
    assert!(System::start(Options::new(nats(&server)), &mut report).await.is_err());
    assert_eq!(report.failed(), ["provision"]);
}

#[tokio::test]
async fn a_secret_that_is_too_short_stops_the_start_at_auth() {
    let server = server();
    let mut report = Report::silent();
    let options = Options::new(nats(&server)).var("JWT_SECRET", "your-secret-key");
    let started = tokio::time::timeout(Duration::from_secs(20), System::start(options, &mut report));
    assert!(started.await.unwrap().is_err());
    assert_eq!(report.failed(), ["start auth"]);
}
