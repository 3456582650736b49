//! Guarded handlers as callers over NATS meet them.

use std::time::{Duration, SystemTime};

use async_nats::Message;
use nats_rpc::ServiceHandle;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::AssertionSigner;
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use crate::support::{code, foreign, nats, request_with};

/// What reached the handler.
#[derive(Serialize)]
struct Seen {
    sub: String,
    payload: Value,
}

#[message_pattern("jwt.whoami")]
#[use_guards(JwtGuard)]
async fn whoami(Auth(me): Auth<UserClaims>, Payload(payload): Payload<Value>) -> Seen {
    Seen { sub: me.sub.clone(), payload }
}

#[derive(Serialize, Deserialize)]
struct Query {
    id: u32,
    user: Option<Value>,
}

#[message_pattern("jwt.query")]
#[use_guards(JwtGuard)]
async fn query(Payload(query): Payload<Query>) -> Query {
    query
}

#[message_pattern("jwt.admin")]
#[use_guards(JwtGuard, RequireRole::new("admin"))]
async fn admin() -> &'static str {
    "done"
}

#[message_pattern("jwt.read")]
#[use_guards(JwtGuard, RequireScope::new("profile:read"))]
async fn read() -> &'static str {
    "done"
}

#[message_pattern("jwt.open")]
#[public]
async fn open(me: Option<Auth<UserClaims>>) -> Option<String> {
    me.map(|Auth(me)| me.sub.clone())
}

fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", [1; 32]).expect("32 bytes")
}

fn assertion_secret() -> SecretKey {
    SecretKey::new("JWT_ASSERTION_SECRET", [2; 32]).expect("32 bytes")
}

fn issue(issuer: &TokenIssuer) -> String {
    issuer.issue(&Grant::new("u1", "s1").roles(&["user".to_owned()]).scope("profile:read")).expect("a token")
}

fn bearer() -> String {
    format!("Bearer {}", issue(&TokenIssuer::hs256(&secret())))
}

struct World {
    _server: NatsServer,
    _service: ServiceHandle,
    nats: async_nats::Client,
}

impl World {
    async fn new(config: JwtConfig) -> Self {
        let server = server();
        let guard = JwtGuard::<UserClaims>::new(config).expect("a guard");
        let service =
            Service::new("guarded", "1.0.0").handlers(handlers![whoami, query, admin, read, open]).guard(guard);
        let service = service.start(nats(&server)).await.expect("a service");
        Self { nats: foreign(&server).await, _server: server, _service: service }
    }

    async fn ask(&self, subject: &str, headers: &[(&'static str, &str)], body: &str) -> (u16, Value) {
        let answer: Message = request_with(&self.nats, subject, headers, body.to_owned()).await;
        (code(&answer), serde_json::from_slice(&answer.payload).expect("JSON"))
    }
}

#[tokio::test]
async fn a_token_in_the_header_reaches_the_handler_in_either_dialect() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    let token = bearer();
    let (code, seen) = world.ask("jwt.whoami", &[("Authorization", &token)], r#"{"a":1}"#).await;
    assert_eq!((code, seen), (0, json!({ "sub": "u1", "payload": { "a": 1 } })));

    let nest = r#"{"pattern":"jwt.whoami","data":{"user":{"sub":"victim"},"a":1},"id":"0123456789abcdef01234"}"#;
    let (code, answer) = world.ask("jwt.whoami", &[("authorization", &token)], nest).await;
    assert_eq!((code, &answer["response"]), (0, &json!({ "sub": "u1", "payload": { "a": 1 } })));
}

#[tokio::test]
async fn a_user_that_the_payload_brings_by_its_place_does_not_reach_the_handler_either() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    let token = bearer();
    for forged in [r#"[7,{"sub":"victim"}]"#, r#" [7,{"sub":"victim"}]"#] {
        let (code, _) = world.ask("jwt.query", &[("authorization", &token)], forged).await;
        assert_eq!(code, 400);
    }
    let named = r#"{"id":7,"user":{"sub":"victim"}}"#;
    let (code, seen) = world.ask("jwt.query", &[("authorization", &token)], named).await;
    assert_eq!((code, seen), (0, json!({ "id": 7, "user": null })));
}

#[tokio::test]
async fn refusals_are_one_401_except_for_an_expired_token() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    let good = bearer();
    let forged = format!("Bearer {}", issue(&TokenIssuer::hs256(&assertion_secret())));
    let basic = good.replacen("Bearer", "Basic", 1);
    let refused: [&[(&str, &str)]; 5] = [
        &[],
        &[("authorization", &forged)],
        &[("authorization", &basic)],
        &[("authorization", &good), ("Authorization", &good)],
        &[("authorization", &good), ("authorization", &good)],
    ];
    for headers in refused {
        let (code, answer) = world.ask("jwt.whoami", headers, r#"{"user":{"sub":"victim"}}"#).await;
        assert_eq!(code, 401);
        assert_eq!(answer, json!({ "code": "UNAUTHENTICATED", "message": "unauthenticated" }));
    }

    let an_hour_ago = || SystemTime::now() - Duration::from_secs(3600);
    let expired = format!("Bearer {}", issue(&TokenIssuer::hs256(&secret()).clock(an_hour_ago)));
    let (code, answer) = world.ask("jwt.whoami", &[("authorization", &expired)], "{}").await;
    assert_eq!((code, &answer["details"]), (401, &json!({ "reason": "token_expired" })));
}

#[tokio::test]
async fn source_08_a_spoofed_user_never_reaches_the_handler() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    let token = bearer();
    for spoofed in [r#"{"user":{"sub":"victim"},"a":1}"#, r#"{"\u0075ser":{"sub":"victim"},"a":1,"user":2}"#] {
        let (code, seen) = world.ask("jwt.whoami", &[("authorization", &token)], spoofed).await;
        assert_eq!((code, seen), (0, json!({ "sub": "u1", "payload": { "a": 1 } })), "{spoofed}");
    }
}

#[tokio::test]
async fn a_missing_role_is_403_and_a_granted_scope_is_enough() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    let token = bearer();
    let (code, answer) = world.ask("jwt.admin", &[("authorization", &token)], "{}").await;
    assert_eq!((code, &answer["code"]), (403, &json!("PERMISSION_DENIED")));
    assert_eq!(world.ask("jwt.admin", &[], "{}").await.0, 401);
    assert_eq!(world.ask("jwt.read", &[("authorization", &token)], "{}").await, (0, json!("done")));
}

#[tokio::test]
async fn a_public_handler_looks_at_no_token() {
    let world = World::new(JwtConfig::hs256(secret())).await;
    for headers in [&[][..], &[("authorization", "Bearer forged")]] {
        assert_eq!(world.ask("jwt.open", headers, "{}").await, (0, Value::Null));
    }
}

#[tokio::test]
async fn source_10_an_assertion_is_taken_once_for_its_own_message() {
    let world = World::new(JwtConfig::hs256(secret()).forwarded_assertion(assertion_secret())).await;
    let body = r#"{"user":{"sub":"u7"},"a":1}"#;
    let assertion = AssertionSigner::hs256(&assertion_secret())
        .sign(&UserClaims::new("u7"), "jwt.whoami", body.as_bytes())
        .expect("an assertion");
    let headers = [("nrpc-assert", assertion.as_str())];

    assert_eq!(world.ask("jwt.whoami", &headers, r#"{"user":{"sub":"u7"},"a":2}"#).await.0, 401);
    assert_eq!(world.ask("jwt.read", &headers, body).await.0, 401);
    let (code, seen) = world.ask("jwt.whoami", &headers, body).await;
    assert_eq!((code, seen), (0, json!({ "sub": "u7", "payload": { "a": 1 } })));
    assert_eq!(world.ask("jwt.whoami", &headers, body).await.0, 401);
    assert_eq!(world.ask("jwt.whoami", &[], body).await.0, 401);
}
