//! Where an identity is claimed: headers, payload fields, a gateway's word, no guard at all.

mod assertions;
mod proof;

use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{NatsConfig, ServiceHandle, StartError};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{AssertionSigner, InsecureDev};
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::server_with;
use serde_json::{Value, json};

use super::capture;
use super::forge::{HEADER, NOW, claims, claims_with, signed_with_secret};
use super::guarded::{Guarded, Hand, carrying, secret};
use super::harness::{self, Outcome, cases};
use crate::support::{nats, soon};

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "source-01" => the_scheme_in_any_case,
        "source-02" => anything_around_scheme_and_token,
        "source-04" => the_header_twice,
        "source-05" => the_header_in_two_spellings,
        "source-07" => header_and_payload,
        "source-08" => a_user_beside_the_token,
        "source-10" => assertions::assertions_for_something_else,
        "source-11" => a_user_on_any_subject,
        "source-13" => users_of_every_shape,
        "source-14" => a_handler_without_a_guard,
        "own-source-closed" => sources_that_are_not_open,
        "own-source-payload" => a_payload_token_that_is_not_one_string,
        "own-source-nest" => the_same_in_the_envelope_of_nestjs,
        "own-source-any-two" => assertions::any_two_sources,
        "own-source-proof" => proof::proofs_of_where_a_caller_is,
        "own-source-gateway-secret" => assertions::an_assertion_and_a_token_change_places,
    ];
    harness::run(World::start, cases).await
}

struct World {
    secret: Guarded,
    payload: Guarded,
    /// Takes a gateway's assertion as well.
    asserted: Guarded,
    /// Everything at once, a forwarded user that is believed included.
    dev: Guarded,
    /// Listens below `gw`, a subject like that of a gateway.
    gw: Guarded,
    server: NatsServer,
}

impl World {
    async fn start() -> Self {
        let server = server_with(|builder| builder.config("max_payload: 8MB"));
        let now = Hand::at(NOW);
        let config = || JwtConfig::hs256(secret()).clock(now.clock());
        let dev = InsecureDev::prove(Some("1"), true).unwrap();
        let dev =
            config().payload_source("token").forwarded_assertion(assertion_secret()).insecure_dev_forwarded_user(dev);
        Self {
            secret: Guarded::start(&server, "secret", config()).await,
            payload: Guarded::start(&server, "payload", config().payload_source("token")).await,
            asserted: Guarded::start(&server, "asserted", config().forwarded_assertion(assertion_secret())).await,
            dev: Guarded::start(&server, "dev", dev).await,
            gw: Guarded::start(&server, "gw", config().forwarded_assertion(assertion_secret())).await,
            server,
        }
    }
}

fn assertion_secret() -> SecretKey {
    let secret = capture::secret("the assertion secret of the hostile cases");
    SecretKey::new("JWT_ASSERTION_SECRET", secret).unwrap()
}

fn good() -> String {
    signed_with_secret(HEADER, &claims().to_string())
}

fn of(sub: &str) -> String {
    signed_with_secret(HEADER, &claims_with(json!({ "sub": sub })).to_string())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

async fn the_scheme_in_any_case(world: &World) {
    for scheme in ["Bearer", "bearer", "BEARER", "BeArEr"] {
        for name in ["authorization", "Authorization", "AUTHORIZATION"] {
            world.secret.takes_message(&[(name, &format!("{scheme} {}", good()))], "{}").await;
        }
    }
    for scheme in ["Bearers", "Beare", "Basic", "Token", "JWT", "Be\u{430}rer"] {
        world.secret.refuses_message(&[("authorization", &format!("{scheme} {}", good()))], "{}").await;
    }
}

async fn anything_around_scheme_and_token(world: &World) {
    let good = good();
    for value in [
        format!("Bearer  {good}"),
        format!("Bearer\t{good}"),
        format!("Bearer\u{a0}{good}"),
        format!("Bearer \u{a0}{good}"),
        format!("Bearer {good} x"),
        format!("Bearer{good}"),
        format!("Bearer:{good}"),
        format!("Bearer {good}, Bearer {good}"),
        format!("Bearer {good},{good}"),
        format!("Bearer {good};q=1"),
        format!("Bearer \"{good}\""),
        format!("Bearer token={good}"),
        format!("Bearer Bearer {good}"),
        "Bearer".to_owned(),
        "Bearer .".to_owned(),
        good.clone(),
    ] {
        world.secret.refuses_message(&[("authorization", &value)], "{}").await;
    }
    world.secret.refuses_message(&[("authorization", "")], "{}").await;
    world.secret.takes_message(&[("authorization", &bearer(&good))], "{}").await;
    // White space around a header's value is no part of it: async-nats takes it away, as HTTP does (RFC 9110,
    // section 5.5). In a payload, where nobody does, it is no token.
    for around in [format!(" Bearer {good}"), format!("Bearer {good} "), format!("Bearer {good}\t")] {
        world.secret.takes_message(&[("authorization", &around)], "{}").await;
    }
    for around in [format!(" {good}"), format!("{good} "), format!("{good}\t"), format!("{good}\u{a0}")] {
        world.payload.refuses_message(&[], &carrying(&around)).await;
    }
}

async fn the_header_twice(world: &World) {
    let (mine, other) = (bearer(&good()), bearer(&of("u2")));
    for second in [mine.as_str(), &other, "", "Basic dTpw"] {
        world.secret.refuses_message(&[("authorization", &mine), ("authorization", second)], "{}").await;
        world.secret.refuses_message(&[("authorization", second), ("authorization", &mine)], "{}").await;
    }
    world.secret.takes_message(&[("authorization", &mine)], "{}").await;
    world.secret.takes_message(&[("authorization", &mine), ("x-authorization", &other)], "{}").await;
}

async fn the_header_in_two_spellings(world: &World) {
    let (mine, other) = (bearer(&good()), bearer(&of("u2")));
    for twin in ["authorization", "AUTHORIZATION", "aUTHORIZATION"] {
        for second in [&mine, &other] {
            world.secret.refuses_message(&[("Authorization", &mine), (twin, second)], "{}").await;
        }
    }
    let three = [("Authorization", mine.as_str()), ("authorization", &mine), ("AUTHORIZATION", &mine)];
    world.secret.refuses_message(&three, "{}").await;
    world.secret.takes_message(&three[..1], "{}").await;
}

async fn header_and_payload(world: &World) {
    let (mine, other) = (good(), of("u2"));
    for (header, payload) in [(&mine, &other), (&other, &mine), (&mine, &mine)] {
        world.payload.refuses_message(&[("authorization", &bearer(header))], &carrying(payload)).await;
    }
    assert_eq!(world.payload.takes_message(&[("authorization", &bearer(&mine))], "{}").await.sub, "u1");
    assert_eq!(world.payload.takes_message(&[], &carrying(&other)).await.sub, "u2");
}

async fn a_user_beside_the_token(world: &World) {
    let mine = bearer(&good());
    let headers = [("authorization", mine.as_str())];
    for body in [
        r#"{"user":{"sub":"u2","roles":["admin"]},"a":1}"#,
        r#"{"a":1,"user":{"sub":"u2"}}"#,
        r#"{"\u0075ser":{"sub":"u2"},"a":1,"user":2}"#,
        r#"{"user":null,"a":1}"#,
    ] {
        // The token's own subject, and not a trace of the other.
        let seen = world.secret.takes_message(&headers, body).await;
        assert_eq!((seen.sub.as_str(), seen.payload), ("u1", Some(json!({ "a": 1 }))), "{body}");
    }
    // Where a forwarded user is a source, the two contradict each other.
    world.dev.refuses_message(&headers, r#"{"user":{"sub":"u2"},"a":1}"#).await;
    world.dev.takes_message(&headers, r#"{"a":1}"#).await;
    // What cannot be read cannot be cleaned, so it does not pass.
    world.secret.is_answered("whoami", &headers, r#"{"user":{"sub":"u2"}"#, 400, None).await;
}

/// No subject makes a sender believed, whoever else may publish to it.
async fn a_user_on_any_subject(world: &World) {
    let body = json!({ "user": { "sub": "u7" }, "a": 1 }).to_string();
    for guarded in [&world.secret, &world.asserted, &world.gw] {
        guarded.refuses_message(&[], &body).await;
        for header in ["x-user", "x-user-id", "user", "Nats-Request-Info", "x-forwarded-user", "nrpc-user"] {
            guarded.refuses_message(&[(header, r#"{"sub":"u7"}"#)], &body).await;
        }
    }
    let assertion = AssertionSigner::hs256(&assertion_secret()).clock(Hand::at(NOW).clock());
    let assertion = assertion.sign(&UserClaims::new("u7"), &world.gw.subject("whoami"), body.as_bytes()).unwrap();
    assert_eq!(world.gw.takes_message(&[("nrpc-assert", &assertion)], &body).await.sub, "u7");
}

async fn users_of_every_shape(world: &World) {
    let mut shapes = vec![
        r#"{"user":true}"#.to_owned(),
        r#"{"user":[]}"#.to_owned(),
        r#"{"user":["u7"]}"#.to_owned(),
        r#"{"user":"admin"}"#.to_owned(),
        r#"{"user":7}"#.to_owned(),
        r#"{"user":null}"#.to_owned(),
        r#"{"user":{}}"#.to_owned(),
        r#"{"user":{"__proto__":{"sub":"u7"}}}"#.to_owned(),
        r#"{"user":{"constructor":{"prototype":{"sub":"u7"}}}}"#.to_owned(),
        r#"{"__proto__":{"user":{"sub":"u7"}}}"#.to_owned(),
        r#"{"user":{"sub":""}}"#.to_owned(),
        r#"{"user":{"sub":null}}"#.to_owned(),
        r#"{"user":{"sub":7}}"#.to_owned(),
        r#"{"user":{"sub":"a\u0000"}}"#.to_owned(),
        r#"{"user":{"sub":"u7","sub":"u8"}}"#.to_owned(),
        r#"{"user":{"sub":"u7"},"user":{"sub":"u8"}}"#.to_owned(),
        r#"{"user":{"sub":"u7","roles":"admin"}}"#.to_owned(),
        r#"[{"user":{"sub":"u7"}}]"#.to_owned(),
    ];
    shapes.push(format!(r#"{{"user":"{}"}}"#, "x".repeat(1 << 20)));
    shapes.push(format!(r#"{{"user":{{"sub":"{}"}}}}"#, "x".repeat(1 << 20)));
    shapes.push(format!(r#"{{"user":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000)));
    for body in &shapes {
        world.secret.refuses_message(&[], body).await;
        // Even on a machine where whoever says who they are is believed.
        world.dev.refuses_message(&[], body).await;
    }
    let seen = world.dev.takes_message(&[], r#"{"user":{"sub":"u7"},"a":1}"#).await;
    assert_eq!((seen.sub.as_str(), seen.payload), ("u7", Some(json!({ "a": 1 }))));
    // With a token, a user of whatever shape is only taken away.
    let token = bearer(&good());
    for body in &shapes[..7] {
        let seen = world.secret.takes_message(&[("authorization", &token)], body).await;
        assert_eq!((seen.sub.as_str(), seen.payload), ("u1", Some(json!({}))), "{body}");
    }
}

#[message_pattern("forgotten.guarded")]
#[use_guards(JwtGuard)]
async fn guarded() {}

#[message_pattern("forgotten.open")]
async fn forgotten() {}

#[message_pattern("forgotten.public")]
#[public]
async fn open() {}

async fn a_handler_without_a_guard(world: &World) {
    let service = |routes| {
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret())).unwrap();
        Service::new("forgotten", "1.0.0").handlers(routes).guard(guard)
    };
    let start = async |service: Service| -> Result<ServiceHandle, StartError> {
        let nats: NatsConfig = nats(&world.server);
        soon(Box::pin(service.start(nats))).await
    };
    let refused = start(service(handlers![guarded, forgotten])).await.unwrap_err();
    let StartError::Invalid(lines) = &refused else { panic!("{refused}") };
    assert!(lines.len() == 1 && lines[0].contains("`forgotten` has no guard"), "{lines:#?}");
    harness::refused();

    drop(start(service(handlers![guarded, open])).await.unwrap());
    harness::passed();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret())).unwrap();
    drop(start(service(handlers![guarded, forgotten]).global_guard(guard)).await.unwrap());
    harness::passed();
}

async fn sources_that_are_not_open(world: &World) {
    let body = carrying(&good());
    let assertion = AssertionSigner::hs256(&assertion_secret()).clock(Hand::at(NOW).clock());
    let assertion = assertion.sign(&UserClaims::new("u7"), &world.secret.subject("whoami"), body.as_bytes()).unwrap();
    world.secret.refuses_message(&[], &body).await;
    world.secret.refuses_message(&[("nrpc-assert", &assertion)], &body).await;
    world.asserted.refuses_message(&[], &body).await;
    world.payload.takes_message(&[], &body).await;
}

async fn a_payload_token_that_is_not_one_string(world: &World) {
    let token = good();
    for body in [
        json!({ "token": [token] }).to_string(),
        json!({ "token": { "token": token } }).to_string(),
        json!({ "nested": { "token": token } }).to_string(),
        json!([{ "token": token }]).to_string(),
        json!({ "token": null }).to_string(),
        json!({ "token": bearer(&token) }).to_string(),
        json!({ "Token": token }).to_string(),
        format!(r#"{{"token":"{token}","token":"{token}"}}"#),
        format!(r#"{{"token":"{token}","tok\u0065n":"{token}"}}"#),
        format!(r#"{{"token":"{token}""#),
        json!(token).to_string(),
    ] {
        world.payload.refuses_message(&[], &body).await;
    }
    world.payload.takes_message(&[], &json!({ "token": token }).to_string()).await;
}

/// What a NestJS gateway of old sends: the decoded user in the data, and perhaps a token there.
async fn the_same_in_the_envelope_of_nestjs(world: &World) {
    let envelope = |data: Value| {
        json!({ "pattern": world.secret.subject("whoami"), "data": data, "id": "0123456789abcdef01234" }).to_string()
    };
    let spoofed = envelope(json!({ "user": { "sub": "u2" }, "a": 1 }));
    for (headers, body) in [
        (vec![], spoofed.clone()),
        (vec![("authorization", bearer(&(good() + "A")))], spoofed.clone()),
        (vec![], envelope(json!({ "token": good() }))),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        world.secret.is_answered("whoami", &headers, &body, 401, None).await;
    }
    let token = bearer(&good());
    let answer = world.secret.takes_nest(&[("authorization", &token)], &spoofed).await;
    assert_eq!(answer["response"], json!({ "sub": "u1", "payload": { "a": 1 } }));
}
