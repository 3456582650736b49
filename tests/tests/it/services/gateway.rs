//! HTTP: what it answers, and what it passes on.

use std::net::SocketAddr;
use std::sync::Arc;

use ::gateway::{Config, Gateway, GatewayError};
use nats_rpc::prelude::*;
use nats_rpc::{Service, ServiceHandle};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;

mod browsers;
mod connections;
mod heads;

/// A gateway alone, before services that a test brings.
struct Front {
    address: SocketAddr,
    http: reqwest::Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), GatewayError>>,
}

impl Front {
    async fn start(server: &NatsServer) -> Self {
        Self::start_with(server, |config| config.timeout(Duration::from_secs(30))).await
    }

    async fn start_with(server: &NatsServer, configure: impl FnOnce(Config) -> Config) -> Self {
        Self::start_as(server, configure(Config::new(guard()))).await
    }

    async fn start_as(server: &NatsServer, config: Config) -> Self {
        let config = config.address(([127, 0, 0, 1], 0));
        let gateway = Gateway::bind(config, nats(server)).await.unwrap();
        let address = gateway.local_addr();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(gateway.serve_with_shutdown(async { drop(stopped.await) }));
        Self { address, http: http(), stop, serving }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("http://{}{path}", self.address))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("http://{}{path}", self.address))
    }

    async fn log_in(&self) -> (u16, Value) {
        answer(self.post("/api/auth/login").json(&json!({ "email": "e", "password": "p" }))).await
    }
}

fn token() -> String {
    let secret = SecretKey::new("JWT_SECRET", SECRET).unwrap();
    TokenIssuer::hs256(&secret).issue(&Grant::new("ada", "session").scope("profile:read")).unwrap()
}

#[derive(Deserialize)]
struct Fails {
    email: String,
}

/// Fails with the code that the address names.
#[message_pattern("auth.login")]
async fn fails(Payload(Fails { email }): Payload<Fails>) -> Result<(), RpcError> {
    match Code::from_name(&email) {
        Some(Code::Internal) => Err(RpcError::internal("the disk is on fire")),
        Some(code) => Err(RpcError::new(code, "as asked").with_details(json!({ "asked": true }))),
        None => Ok(()),
    }
}

async fn start(server: &NatsServer, service: Service) -> ServiceHandle {
    service.start(nats(server)).await.unwrap()
}

#[tokio::test]
async fn every_code_has_its_status() {
    let server = server();
    let _service = start(&server, Service::new("auth", "1.0.0").handlers(handlers![fails])).await;
    let front = Front::start(&server).await;
    for (code, status) in [
        ("INVALID_ARGUMENT", 400),
        ("UNAUTHENTICATED", 401),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("CONFLICT", 409),
        ("PAYLOAD_TOO_LARGE", 413),
        ("RESOURCE_EXHAUSTED", 429),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
    ] {
        let request = front.post("/api/auth/login").json(&json!({ "email": code, "password": "p" }));
        let expected = json!({ "code": code, "message": "as asked", "details": { "asked": true } });
        assert_eq!(answer(request).await, (status, expected));
    }
    let request = front.post("/api/auth/login").json(&json!({ "email": "INTERNAL", "password": "p" }));
    assert_eq!(answer(request).await, (500, json!({ "code": "INTERNAL", "message": "internal error" })));
    assert_eq!(front.log_in().await, (200, Value::Null));
}

#[tokio::test]
async fn a_service_that_is_down_is_503_and_a_slow_one_504() {
    let server = server();
    let front = Front::start_with(&server, |config| config.timeout(Duration::from_millis(300))).await;
    let (status, body) = front.log_in().await;
    assert_eq!((status, &body["code"]), (503, &json!("UNAVAILABLE")));

    // It listens, and never answers.
    let client = client(&server).await;
    let _silent = client.connection().nats().subscribe("auth.login").await.unwrap();
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    let (status, body) = front.log_in().await;
    assert_eq!((status, &body["code"]), (504, &json!("DEADLINE_EXCEEDED")));
    assert_eq!(answer(front.get("/healthz")).await.0, 200);
}

#[tokio::test]
async fn without_nats_server_the_gateway_is_not_ready_and_recovers() {
    let mut server = server();
    let front = Front::start(&server).await;
    assert_eq!(answer(front.get("/readyz")).await, (200, json!({ "status": "ready" })));
    server.kill();
    soon(async { while answer(front.get("/readyz")).await.0 != 503 {} }).await;
    assert_eq!(front.log_in().await.0, 503);
    assert_eq!(answer(front.get("/healthz")).await.0, 200);
    server.restart().unwrap();
    soon(async { while answer(front.get("/readyz")).await.0 != 200 {} }).await;
}

#[tokio::test]
async fn without_a_key_the_gateway_is_503_and_not_ready() {
    let server = server();
    let ring = nats_rpc_jwt::KeyRing::from_json(br#"{"version":1,"keys":[]}"#).unwrap();
    let guard = JwtGuard::new(nats_rpc_jwt::JwtConfig::ring(ring.clone())).unwrap();
    let front = Front::start_as(&server, Config::new(guard)).await;
    let header = "eyJhbGciOiJFZERTQSIsInR5cCI6ImF0K2p3dCIsImtpZCI6ImsifQ";
    let me = async || answer(front.get("/api/users/me").bearer_auth(format!("{header}.e30.AAAA"))).await.0;
    assert_eq!((answer(front.get("/readyz")).await.0, me().await), (503, 503));
    assert_eq!(answer(front.get("/healthz")).await.0, 200);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
    let key = json!({ "kid": "k", "alg": "EdDSA", "typ": "at+jwt", "iss": "i", "jwk": jwk });
    ring.replace(json!({ "version": 2, "keys": [key] }).to_string().as_bytes()).unwrap();
    assert_eq!((answer(front.get("/readyz")).await.0, me().await), (200, 401));
}

#[tokio::test]
async fn an_unreadable_answer_is_500_and_the_gateway_lives() {
    let server = server();
    let client = client(&server).await;
    let front = Front::start(&server).await;
    let mut requests = client.connection().nats().subscribe("auth.login").await.unwrap();
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    let nats = client.connection().nats().clone();
    tokio::spawn(async move {
        let answers: [&'static [u8]; 5] = [b"{", b"\xff\xfe", b"{}{}", b"undefined", b"{\"ok\":true}"];
        for body in answers {
            let request = futures::StreamExt::next(&mut requests).await.unwrap();
            nats.publish(request.reply.unwrap(), body.into()).await.unwrap();
        }
    });
    for _ in 0..4 {
        assert_eq!(front.log_in().await, (500, json!({ "code": "INTERNAL", "message": "internal error" })));
    }
    assert_eq!(front.log_in().await, (200, json!({ "ok": true })));
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_never_passed_on() {
    let server = server();
    let client = client(&server).await;
    let front = Front::start(&server).await;
    let mut overheard = client.connection().nats().subscribe(">").await.unwrap();
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();

    let deep = [&b"["[..].repeat(60_000)[..]].concat();
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"email\":\"e\"}",
        b"{\"email\":\"e\",\"password\":7}",
        b"{\"email\":\"\xff\",\"password\":\"p\"}",
        &deep,
    ];
    for body in bodies {
        let request = front.post("/api/auth/login").header("content-type", "application/json").body(body.to_vec());
        let (status, said) = answer(request).await;
        let start = &body[..body.len().min(20)];
        assert_eq!((status, &said["code"]), (400, &json!("INVALID_ARGUMENT")), "{start:?}");
    }
    let json_text = r#"{"email":"e","password":"p"}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = front.post("/api/auth/login").header("content-type", content_type).body(json_text);
        assert_eq!(answer(request).await.0, 415);
    }
    assert_eq!(answer(front.post("/api/auth/login").body(json_text)).await.0, 415);
    let large = format!(r#"{{"email":"e","password":"{}"}}"#, "p".repeat(64 * 1024));
    let request = front.post("/api/auth/login").header("content-type", "application/json").body(large);
    let (status, said) = answer(request).await;
    assert_eq!((status, &said["code"]), (413, &json!("PAYLOAD_TOO_LARGE")));
    assert_eq!(answer(front.get("/api/auth/login")).await.0, 405);
    for path in ["/", "/api", "/api/auth", "/api/users/profile/x", "/%00", "/..%2f"] {
        assert_eq!(answer(front.get(path)).await.0, 404, "{path}");
    }

    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    while let Some(Some(message)) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut overheard)) {
        assert!(message.subject.starts_with("_INBOX"), "{:?} was passed on", message.subject);
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_and_no_service_hears_of_it() {
    let server = server();
    let client = client(&server).await;
    let front = Front::start(&server).await;
    let mut overheard = client.connection().nats().subscribe("get_user_profile").await.unwrap();
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    let (good, secret) = (token(), SecretKey::new("another", [1; 32]).unwrap());
    let forged = TokenIssuer::hs256(&secret).issue(&Grant::new("ada", "session")).unwrap();
    let expired = TokenIssuer::hs256(&SecretKey::new("JWT_SECRET", SECRET).unwrap())
        .clock(|| std::time::SystemTime::now() - Duration::from_secs(3_600))
        .issue(&Grant::new("ada", "session"))
        .unwrap();
    let cases: [&[String]; 9] = [
        &[],
        &[format!("Bearer {forged}")],
        &[format!("Bearer {expired}")],
        &[format!("Basic {good}")],
        std::slice::from_ref(&good),
        &[format!("Bearer  {good}")],
        &[format!("Bearer {good} ,x")],
        &[format!("Bearer {good}"), format!("Bearer {good}")],
        &[format!("Bearer {}", "a".repeat(8_000))],
    ];
    for (number, values) in cases.iter().enumerate() {
        for request in [front.get("/api/users/me"), front.post("/api/users/profile").json(&json!({ "token": good }))] {
            let request = values.iter().fold(request, |request, value| request.header("authorization", value));
            let response = soon(request.send()).await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let status = response.status().as_u16();
            let body: Value = response.json().await.unwrap();
            let reason = if number == 2 { json!("token_expired") } else { Value::Null };
            assert_eq!((status, &body["code"], &body["details"]["reason"]), (401, &json!("UNAUTHENTICATED"), &reason));
        }
    }
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    assert!(futures::FutureExt::now_or_never(futures::StreamExt::next(&mut overheard)).is_none());
}

type Seen = mpsc::UnboundedSender<(Option<String>, Option<String>, String)>;

/// Tells what it was sent: request id, authorization, data.
#[message_pattern("get_user_profile")]
async fn tells(State(seen): State<Seen>, headers: Headers, Payload(data): Payload<Value>) -> Result<(), RpcError> {
    let header = |name: &str| headers.get(name).map(str::to_owned);
    seen.send((header("x-request-id"), header("authorization"), data.to_string())).internal()
}

#[tokio::test]
async fn what_is_passed_on_is_the_token_the_request_id_and_the_fields_that_are_known() {
    let server = server();
    let (seen, mut told) = mpsc::unbounded_channel();
    let seen: Seen = seen;
    let _service = start(&server, Service::new("users", "1.0.0").handlers(handlers![tells]).provide(seen)).await;
    let front = Front::start(&server).await;
    let body = json!({ "userId": "ada", "user": { "sub": "eve" }, "pattern": "x", "id": "y", "token": "z" });
    let token = token();
    let request = front.post("/api/users/profile").bearer_auth(&token).header("x-request-id", "order-7").json(&body);
    let response = soon(request.send()).await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert_eq!(response.headers()["x-request-id"], "order-7");
    assert_eq!(response.headers()["cache-control"], "no-store");
    let (id, authorization, data) = soon(told.recv()).await.unwrap();
    assert_eq!((id.as_deref(), authorization), (Some("order-7"), Some(format!("Bearer {token}"))));
    assert_eq!(data, r#"{"userId":"ada"}"#);

    // An id that is no word is not passed on, in either direction.
    let request = front.get("/api/users/me").bearer_auth(&token).header("x-request-id", "two words; x=y");
    let response = soon(request.send()).await.unwrap();
    let (id, _, data) = soon(told.recv()).await.unwrap();
    assert_eq!(response.headers()["x-request-id"].to_str().unwrap(), id.as_deref().unwrap());
    assert!(!id.unwrap().contains(' '));
    assert_eq!(data, "{}");
}

#[message_pattern("auth.login")]
async fn waits(State(gate): State<Arc<tokio::sync::Semaphore>>) -> Result<&'static str, RpcError> {
    gate.acquire().await.internal()?.forget();
    Ok("done")
}

#[tokio::test]
async fn a_stop_finishes_what_has_begun_and_takes_nothing_new() {
    let server = server();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let service = Service::new("auth", "1.0.0").handlers(handlers![waits]).provide(gate.clone());
    let _service = start(&server, service).await;
    let client = client(&server).await;
    let mut overheard = client.connection().nats().subscribe("auth.login").await.unwrap();
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    let front = Front::start(&server).await;
    let request = front.post("/api/auth/login").json(&json!({ "email": "e", "password": "p" }));
    let begun = tokio::spawn(answer(request));
    soon(futures::StreamExt::next(&mut overheard)).await.unwrap();
    front.stop.send(()).unwrap();
    soon(async { while tokio::net::TcpStream::connect(front.address).await.is_ok() {} }).await;
    gate.add_permits(1);
    assert_eq!(soon(begun).await.unwrap(), (200, json!("done")));
    soon(front.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_never_comes_ends_by_the_time_limit() {
    let server = server();
    let front = Front::start_with(&server, |config| config.timeout(Duration::from_millis(200))).await;
    let mut socket = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let head =
        "POST /api/auth/login HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    soon(socket.read_exact(&mut start)).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 504");
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let server = server();
    let front = Front::start(&server).await;
    let error = Gateway::bind(Config::new(guard()).address(front.address), nats(&server)).await.unwrap_err();
    assert!(error.to_string().contains(&front.address.to_string()), "{error}");
}
