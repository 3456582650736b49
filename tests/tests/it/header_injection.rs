//! A line feed in a header value, which async-nats reads as the end of one header and the begin of the next.
//!
//! nats-server passes such a value on. A program that copies foreign text into a header without a look at it lets the
//! text's author add headers of any name. These tests show what that gains with each header of ours.

use std::time::Duration;

use async_nats::Message;
use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, ServiceHandle};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{AssertionSigner, CLIENT_IP_HEADER, ClientIp, ClientIpSigner, ClientIpVerifier};
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::server;

use crate::support::{PATIENCE, client, code, foreign, nats, send_raw, soon};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER_TRACE: &str = "00-11111111111111111111111111111111-2222222222222222-01";

#[message_pattern("lf.me")]
#[use_guards(JwtGuard)]
async fn me(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

#[message_pattern("lf.where")]
#[public]
async fn whereabouts(ClientIp(address): ClientIp) -> Option<String> {
    address
}

/// How much time the handler has, in ms.
#[message_pattern("lf.left")]
#[public]
async fn left(context: Context) -> u64 {
    context.remaining().as_millis() as u64
}

/// The trace that a call of the handler would continue.
#[message_pattern("lf.trace")]
#[public]
async fn trace(State(client): State<Client>) -> Result<String, RpcError> {
    Ok(client.send("lf.headers", &()).await?)
}

#[message_pattern("lf.headers")]
#[public]
async fn headers(headers: Headers) -> String {
    headers.get("traceparent").unwrap_or_default().to_owned()
}

/// A stream of the numbers up to three.
#[message_pattern("lf.count")]
#[public]
async fn count() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=3).map(Ok)))
}

fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", [1; 32]).unwrap()
}

fn assertion_secret() -> SecretKey {
    SecretKey::new("JWT_ASSERTION_SECRET", [2; 32]).unwrap()
}

fn bearer(user: &str) -> String {
    format!("Bearer {}", TokenIssuer::hs256(&secret()).issue(&Grant::new(user, "s1")).unwrap())
}

fn assertion(user: &str) -> String {
    AssertionSigner::hs256(&assertion_secret()).sign(&UserClaims::new(user), "lf.me", b"null").unwrap()
}

fn proof(address: &str) -> String {
    ClientIpSigner::hs256(&assertion_secret()).sign(address.parse().unwrap(), "lf.where", b"null").unwrap()
}

struct World {
    server: NatsServer,
    _service: ServiceHandle,
    nats: async_nats::Client,
}

impl World {
    async fn start() -> Self {
        let server = server();
        let guard: JwtGuard =
            JwtGuard::new(JwtConfig::hs256(secret()).forwarded_assertion(assertion_secret())).unwrap();
        let service = Service::new("lf", "1.0.0")
            .handlers(handlers![me, whereabouts, left, trace, headers, count])
            .provide(ClientIpVerifier::hs256(&assertion_secret(), nats_rpc_jwt::DEFAULT_AUDIENCE))
            .provide(client(&server).await)
            .guard(guard)
            .start(nats(&server))
            .await
            .unwrap();
        let nats = foreign(&server).await;
        Self { server, _service: service, nats }
    }

    /// Sends a request with these headers, as they stand here, and takes the reply.
    async fn ask(&self, subject: &str, headers: &[(&str, &str)]) -> Message {
        let inbox = self.nats.new_inbox();
        let mut replies = self.nats.subscribe(inbox.clone()).await.unwrap();
        self.nats.flush().await.unwrap();
        // `flush` does not wait for nats-server; a round trip on the same connection does.
        let probe = self.nats.new_inbox();
        let mut echo = self.nats.subscribe(probe.clone()).await.unwrap();
        self.nats.publish(probe, "".into()).await.unwrap();
        soon(echo.next()).await.unwrap();
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let block = format!("NATS/1.0\r\n{lines}\r\n");
        let line = format!("HPUB {subject} {inbox} {} {}\r\n{block}null\r\n", block.len(), block.len() + 4);
        send_raw(&self.server, line.as_bytes()).await;
        soon(replies.next()).await.unwrap()
    }
}

fn text(message: &Message) -> String {
    assert_eq!(code(message), 0, "{message:?}");
    String::from_utf8(message.payload.to_vec()).unwrap()
}

/// A header of the program's own whose value ends in a line of the attacker's.
fn note(line: &str) -> (&'static str, String) {
    ("X-Note", format!("hello\n{line}"))
}

#[tokio::test]
async fn injected_identity_beside_another_is_refused() {
    let world = World::start().await;
    let (mine, evil) = (bearer("ada"), format!("authorization: {}", bearer("eve")));
    assert_eq!(text(&world.ask("lf.me", &[("authorization", &mine)]).await), r#""ada""#);
    for line in [evil.clone(), evil.replace("auth", "AUTH"), format!("nrpc-assert: {}", assertion("eve"))] {
        let (name, value) = note(&line);
        for headers in [[("authorization", &*mine), (name, &value)], [(name, &value), ("authorization", &*mine)]] {
            assert_eq!(code(&world.ask("lf.me", &headers).await), 401, "{line}");
        }
    }
    let (name, value) = note(&format!("nrpc-assert: {}", assertion("eve")));
    let asserted = assertion("ada");
    assert_eq!(code(&world.ask("lf.me", &[("nrpc-assert", &asserted), (name, &value)]).await), 401);
    // Alone, it is the identity of its author, who could have called with it just as well.
    let (name, value) = note(&evil);
    assert_eq!(text(&world.ask("lf.me", &[(name, &value)]).await), r#""eve""#);
    let (name, value) = note("authorization: Bearer a.b.c");
    assert_eq!(code(&world.ask("lf.me", &[(name, &value)]).await), 401);
}

#[tokio::test]
async fn injected_address_beside_a_proof_leaves_none() {
    let world = World::start().await;
    assert_eq!(text(&world.ask("lf.where", &[(CLIENT_IP_HEADER, &proof("192.0.2.1"))]).await), r#""192.0.2.1""#);
    let (name, value) = note(&format!("{CLIENT_IP_HEADER}: {}", proof("192.0.2.9")));
    assert_eq!(text(&world.ask("lf.where", &[(CLIENT_IP_HEADER, &proof("192.0.2.1")), (name, &value)]).await), "null");
    let (name, value) = note(&format!("{CLIENT_IP_HEADER}: 192.0.2.9"));
    assert_eq!(text(&world.ask("lf.where", &[(name, &value)]).await), "null");
}

#[tokio::test]
async fn injected_deadline_extends_nothing() {
    let world = World::start().await;
    let left = async |headers: &[(&str, &str)]| text(&world.ask("lf.left", headers).await).parse::<u64>().unwrap();
    let limit = left(&[]).await;
    assert!(limit > 10_000, "{limit}");
    let (name, value) = note("Rpc-Timeout-Ms: 86400000");
    assert!(left(&[("Rpc-Timeout-Ms", "9000"), (name, &value)]).await <= 9_000);
    assert!(left(&[(name, &value), ("Rpc-Timeout-Ms", "9000")]).await <= 9_000);
    assert!(left(&[(name, &value)]).await <= Duration::from_secs(30).as_millis() as u64);
}

#[tokio::test]
async fn injected_trace_beside_another_leaves_none() {
    let world = World::start().await;
    let traced = text(&world.ask("lf.trace", &[("traceparent", TRACE)]).await);
    assert!(traced.contains(&TRACE[..35]), "{traced}");
    let (name, value) = note(&format!("traceparent: {OTHER_TRACE}"));
    assert_eq!(text(&world.ask("lf.trace", &[("traceparent", TRACE), (name, &value)]).await), r#""""#);
}

#[tokio::test]
async fn injected_frame_or_status_changes_no_request() {
    let world = World::start().await;
    let (name, value) = note("Rpc-Stream: open 5");
    assert_eq!(code(&world.ask("lf.count", &[("Rpc-Stream", "open 1")]).await), 0, "the control");
    for headers in [[("Rpc-Stream", "open 1"), (name, &value)], [(name, &value), ("Rpc-Stream", "open 1")]] {
        assert_eq!(code(&world.ask("lf.count", &headers).await), 400);
    }
    for line in ["Nats-Service-Error: x", "Nats-Service-Error-Code: 500", "Status: 503"] {
        let (name, value) = note(line);
        assert_eq!(text(&world.ask("lf.headers", &[(name, &value)]).await), r#""""#, "{line}");
    }
}

#[tokio::test]
async fn client_refuses_a_header_that_is_no_single_printable_line() {
    let server = server();
    let client = client(&server).await;
    for value in ["a\r\nauthorization: Bearer x", "a\nb", "a\rb", "a\0b", "größe"] {
        let outcome = client.header("X-Note", value).timeout(PATIENCE).send::<()>("lf.nobody", &()).await;
        let Err(CallError::Invalid(why)) = outcome else { panic!("{value:?}: {outcome:?}") };
        assert!(why.contains("X-Note") && !why.contains("Bearer"), "{why}");
    }
    let outcome = client.header("X-Note", "plain text").send::<()>("lf.nobody", &()).await;
    assert!(matches!(outcome, Err(CallError::NoResponders { .. })), "{outcome:?}");
}
