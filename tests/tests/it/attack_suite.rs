//! The attacks that a user of the framework runs on a service of their own.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::testing::{AttackError, AttackReport, AttackSuite, NatsServer};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use crate::support::foreign;

/// The first lesson, which is what most services begin as.
#[path = "../../../examples/hello.rs"]
#[allow(dead_code, unreachable_pub, reason = "its `main` is that of an example")]
mod hello;

const SECRET: &str = "an access secret of more than 32 bytes";

#[derive(Deserialize)]
struct Add {
    a: i32,
    b: i32,
}

#[message_pattern("attacked.add")]
async fn add(Payload(Add { a, b }): Payload<Add>) -> Result<i32, RpcError> {
    a.checked_add(b).ok_or_else(|| RpcError::invalid_argument("out of range"))
}

#[message_pattern("attacked.echo.{name}")]
async fn echo(Param(name): Param<String>, Payload(value): Payload<Value>) -> (String, Value) {
    (name, value)
}

#[message_pattern("attacked.me")]
#[use_guards(JwtGuard)]
async fn me(Auth(claims): Auth<UserClaims>) -> String {
    claims.sub.clone()
}

/// Trusts that there is a first element.
#[message_pattern("attacked.careless")]
async fn careless(Payload(texts): Payload<Vec<String>>) -> String {
    texts[0].clone()
}

/// Repeats what it cannot use.
#[message_pattern("attacked.talkative")]
async fn talkative(Payload(value): Payload<Value>) -> Result<u64, RpcError> {
    value["secret"].as_u64().ok_or_else(|| RpcError::invalid_argument(format!("{value} is no secret")))
}

async fn attack(suite: Result<AttackSuite, AttackError>, service: Service) -> AttackReport {
    let binary = nats_rpc_tests::nats_server::path().unwrap();
    suite.unwrap().nats_server(NatsServer::at(binary)).run(service).await.unwrap()
}

/// The names of the attacks that succeeded.
fn findings(report: &AttackReport) -> BTreeSet<&str> {
    report.findings().map(|finding| finding.name()).collect()
}

#[tokio::test]
async fn hello_example_withstands_all_attacks() {
    attack(AttackSuite::new("greet.ada", &()), hello::service()).await.assert_clean();
}

#[tokio::test]
async fn service_with_typed_payload_withstands_all_attacks() {
    let service = Service::new("attacked", "1.0.0").handlers(handlers![add]);
    let report = attack(AttackSuite::new("attacked.add", &json!({ "a": 1, "b": 2 })), service).await;
    assert!(report.results().len() > 200, "{report}");
    report.assert_clean();
}

#[tokio::test]
async fn service_that_echoes_withstands_all_attacks() {
    let service = Service::new("attacked", "1.0.0").handlers(handlers![echo]);
    attack(AttackSuite::new("attacked.echo.ada", &json!({ "a": [1] })), service).await.assert_clean();
}

#[tokio::test]
async fn guarded_service_withstands_all_attacks() {
    let secret = SecretKey::new("JWT_SECRET", SECRET).unwrap();
    let token = TokenIssuer::hs256(&secret).issue(&Grant::new("ada", "session")).unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret)).unwrap();
    let service = Service::new("attacked", "1.0.0").handlers(handlers![me]).guard(guard);
    attack(AttackSuite::new("attacked.me", &()).map(|suite| suite.bearer(token)), service).await.assert_clean();
}

#[tokio::test]
async fn panic_and_repeated_value_are_findings() {
    let service = Service::new("attacked", "1.0.0").handlers(handlers![careless, talkative]);
    let report = attack(AttackSuite::new("attacked.careless", &["a"]), service).await;
    assert!(findings(&report).contains("payload: an empty array"), "{report}");
    let service = Service::new("attacked", "1.0.0").handlers(handlers![careless, talkative]);
    let report = attack(AttackSuite::new("attacked.talkative", &json!({ "secret": 1 })), service).await;
    assert!(findings(&report).contains("payload: member `secret` of another type"), "{report}");
}

/// A service without a framework, which replies with what it gets, wherever its caller says.
#[tokio::test]
async fn naive_responder_fails_the_suite() {
    let server = server();
    let nats = foreign(&server).await;
    let mut requests = nats.subscribe("naive").await.unwrap();
    let naive = async {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                nats.publish(reply, Bytes::new()).await.unwrap();
            }
        }
        std::future::pending::<()>().await
    };
    let (suite, url) = (AttackSuite::new("naive", &()).unwrap(), server.url());
    let report = tokio::select! {
        report = suite.run_on(&url) => report.unwrap(),
        () = naive => unreachable!(),
    };
    let findings = findings(&report);
    let purge = "reply to `$JS.API.STREAM.PURGE.KV_nats_rpc_attacks`: a valid request";
    let poison = "poison: headers with a bare CR in a value";
    for expected in [purge, poison, "the KV bucket is as it was before the attacks"] {
        assert!(findings.contains(expected), "{expected}\n{report}");
    }
    assert!(!findings.contains("control: reply to `_INBOX.attacks.allowed`"), "{report}");
}

#[tokio::test]
async fn suite_needs_a_valid_request_that_succeeds() {
    let server = server();
    let suite = AttackSuite::new("nobody.listens", &()).unwrap();
    let error = suite.run_on(&server.url()).await.unwrap_err();
    assert!(matches!(error, AttackError::Control { .. }), "{error}");
}
