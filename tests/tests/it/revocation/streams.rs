//! Streams whose token ends while they run.

use std::time::Instant;

use futures::{Stream, StreamExt, stream};
use nats_rpc::{CallError, ResponseStream};
use nats_rpc_jwt::AssertionSigner;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::*;
use crate::support::foreign;

type Numbers = ResponseStream<u64>;

/// A number every 20 ms, without an end.
fn numbers() -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    Streaming::new(stream::unfold(0, async |number| {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok(number), number + 1))
    }))
}

#[message_pattern("numbers")]
#[use_guards(JwtGuard)]
async fn strict() -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    numbers()
}

#[message_pattern("numbers.though")]
#[use_guards(FailOpenJwtGuard)]
async fn lenient() -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    numbers()
}

/// Sends one item and no more.
#[message_pattern("silent")]
#[use_guards(JwtGuard)]
async fn silent() -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    Streaming::new(stream::iter([Ok(0)]).chain(stream::pending()))
}

/// Says that it has begun, and takes until it is let go.
#[message_pattern("long")]
#[use_guards(JwtGuard)]
async fn long(State(Gates { begun, go }): State<Gates>) -> u64 {
    begun.add_permits(1);
    go.acquire().await.expect("it is never closed").forget();
    7
}

#[derive(Clone)]
struct Gates {
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

#[message_pattern("global")]
async fn global() -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    numbers()
}

/// What a test expects of a stream at most.
const LIMIT: Duration = Duration::from_secs(10);

impl World {
    /// A service that follows what is revoked on a connection through `follower`.
    async fn streaming(&self, follower: NatsConfig, max_stale: Duration, leeway: Duration) -> (ServiceHandle, Gates) {
        let gates = Gates { begun: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) };
        let follower = Connection::open(&follower).await.unwrap();
        let revocations = soon(Revocations::watch_within(&follower, max_stale)).await.unwrap();
        let config = JwtConfig::hs256(secret()).revocations(revocations).leeway(leeway);
        let config = config.forwarded_assertion(assertion_secret());
        let guard = JwtGuard::<UserClaims>::new(config).unwrap();
        let limits = nats_rpc::Limits { timeout: Duration::from_secs(60), ..nats_rpc::Limits::default() };
        let service = Service::new("numbers", "1.0.0")
            .handlers(handlers![strict, lenient, silent, long])
            .provide(gates.clone())
            .guard(guard)
            .limits(limits);
        (soon(service.start(nats(&self.server))).await.unwrap(), gates)
    }

    async fn simple(&self) -> (ServiceHandle, Gates) {
        self.streaming(nats(&self.server), 30 * SECOND, Duration::ZERO).await
    }
}

fn assertion_secret() -> SecretKey {
    SecretKey::new("JWT_ASSERTION_SECRET", [8; 32]).unwrap()
}

/// A stream that has begun.
async fn begin(client: &Client, subject: &str, token: &str) -> Numbers {
    let mut numbers = soon(client.bearer(token).stream::<u64>(subject, &())).await.unwrap();
    assert_eq!(soon(numbers.next()).await.unwrap().unwrap(), 0);
    numbers
}

/// The code that the stream ends with; the items that come meanwhile are passed over.
async fn end(numbers: &mut Numbers) -> u16 {
    let ending = async {
        loop {
            match numbers.next().await {
                Some(Ok(_)) => {}
                Some(Err(CallError::Remote(error))) => return error.status(),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, ending).await.expect("the stream goes on")
}

async fn goes_on(numbers: &mut Numbers) {
    for _ in 0..3 {
        soon(numbers.next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn streams_end_when_their_session_user_or_all_are_revoked() {
    let world = World::new().await;
    let (_service, client) = (world.simple().await, client(&world.server).await);
    let token = |sub: &str, sid: &str| token(sub, sid, 0, 0);
    let mut by_session = begin(&client, "numbers", &token("u1", "s1")).await;
    let mut by_user = begin(&client, "numbers.though", &token("u2", "s2")).await;
    let mut by_token = begin(&client, "numbers", &token("u3", "s3")).await;
    let silent = token("u3", "s4");
    let mut without_items = begin(&client, "silent", &silent).await;
    world.revoker.session("s1").await.unwrap();
    assert_eq!(end(&mut by_session).await, 401);
    goes_on(&mut by_user).await;
    world.revoker.user("u2", 1).await.unwrap();
    assert_eq!(end(&mut by_user).await, 401);
    goes_on(&mut by_token).await;
    world.revoker.token(&claim(&silent, "jti")).await.unwrap();
    assert_eq!(end(&mut without_items).await, 401);
    goes_on(&mut by_token).await;
    world.revoker.everybody().await.unwrap();
    assert_eq!(end(&mut by_token).await, 401);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let _service = world.streaming(nats(&world.server), 30 * SECOND, SECOND).await;
    let issuer = TokenIssuer::hs256(&secret());
    let short = issuer.lifetime(2 * SECOND).issue(&Grant::new("u1", "s1")).unwrap();
    let since = Instant::now();
    let mut ends = begin(&client, "numbers", &short).await;
    let mut though = begin(&client, "numbers.though", &short).await;
    let mut control = begin(&client, "numbers", &token("u1", "s1", 0, 0)).await;
    for numbers in [&mut ends, &mut though] {
        assert_eq!(end(numbers).await, 401);
        // Two seconds of life, which are whole ones, and one of leeway.
        assert!(since.elapsed() >= 2 * SECOND, "{:?}", since.elapsed());
    }
    goes_on(&mut control).await;
}

#[tokio::test]
async fn a_stream_ends_with_503_when_revocations_are_stale() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let proxy = Proxy::to(world.server.port()).start().await.unwrap();
    let _service = world.streaming(NatsConfig::new(proxy.url()), SECOND, SECOND).await;
    let mut strict = begin(&client, "numbers", &token("u1", "s1", 0, 0)).await;
    let mut lenient = begin(&client, "numbers.though", &token("u1", "s2", 0, 0)).await;
    proxy.freeze(Which::All);
    assert_eq!(end(&mut strict).await, 503);
    goes_on(&mut lenient).await;
    proxy.resume(Which::All);
    until(async || client.bearer(token("u1", "s3", 0, 0)).stream::<u64>("numbers", &()).await.is_ok()).await;
    world.revoker.session("s2").await.unwrap();
    assert_eq!(end(&mut lenient).await, 401);
}

#[tokio::test]
async fn a_nestjs_stream_ends_when_its_session_is_revoked() {
    let world = World::new().await;
    let _service = world.simple().await;
    let caller = foreign(&world.server).await;
    let open = async |sid: &str| {
        let inbox = caller.new_inbox();
        let heard = caller.subscribe(inbox.clone()).await.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", token("u1", sid, 0, 0)).as_str());
        let body = json!({ "pattern": "numbers", "data": null, "id": "88a5f0d6ac4d1830655c1" }).to_string();
        caller.publish_with_reply_and_headers("numbers", inbox, headers, body.into()).await.unwrap();
        heard
    };
    let (mut revoked, mut control) = (open("s1").await, open("s2").await);
    let next = async |heard: &mut async_nats::Subscriber| -> Value {
        let message = tokio::time::timeout(LIMIT, heard.next()).await.expect("an item").unwrap();
        serde_json::from_slice(&message.payload).unwrap()
    };
    assert_eq!(next(&mut revoked).await["response"], 0);
    assert_eq!(next(&mut control).await["response"], 0);
    world.revoker.session("s1").await.unwrap();
    let ending = async {
        loop {
            let body = next(&mut revoked).await;
            if body["isDisposed"] == true {
                return body;
            }
        }
    };
    let last = tokio::time::timeout(LIMIT, ending).await.expect("the stream goes on");
    assert_eq!(last["err"]["status"], 401, "{last}");
    assert!(next(&mut control).await.get("err").is_none());
}

#[tokio::test]
async fn a_stream_by_assertion_ends_when_its_user_is_revoked() {
    let world = World::new().await;
    let (_service, client) = (world.simple().await, client(&world.server).await);
    let signer = AssertionSigner::hs256(&assertion_secret());
    let open = async |subject: &str, sub: &str, sid: &str| {
        let assertion = signer.sign(&UserClaims::new(sub).with_sid(sid), subject, b"null").unwrap();
        let mut numbers =
            soon(client.clone().header("nrpc-assert", assertion).stream::<u64>(subject, &())).await.unwrap();
        soon(numbers.next()).await.unwrap().unwrap();
        numbers
    };
    // An epoch that was raised before an assertion was made says nothing of it.
    world.revoker.user("u2", 1).await.unwrap();
    let mut by_session = open("numbers", "u1", "s1").await;
    let mut by_user = open("numbers.though", "u2", "s2").await;
    let mut control = open("numbers", "u3", "s3").await;
    world.revoker.session("s1").await.unwrap();
    assert_eq!(end(&mut by_session).await, 401);
    goes_on(&mut by_user).await;
    world.revoker.user("u2", 2).await.unwrap();
    assert_eq!(end(&mut by_user).await, 401);
    goes_on(&mut control).await;
    world.revoker.everybody().await.unwrap();
    assert_eq!(end(&mut control).await, 401);
}

#[tokio::test]
async fn a_stream_behind_a_global_guard_ends_too() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let follower = connect(&world.server).await;
    let service = Service::new("global", "1.0.0")
        .handlers(handlers![global])
        .global_guard(guard(follower, 30 * SECOND).await.unwrap());
    let _service = soon(service.start(nats(&world.server))).await.unwrap();
    let mut numbers = begin(&client, "global", &token("u1", "s1", 0, 0)).await;
    let mut control = begin(&client, "global", &token("u1", "s2", 0, 0)).await;
    world.revoker.session("s1").await.unwrap();
    assert_eq!(end(&mut numbers).await, 401);
    goes_on(&mut control).await;
}

/// A handler that replies once may be in the midst of a write: it is not interrupted.
#[tokio::test]
async fn a_long_handler_is_not_interrupted_by_a_revocation() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let (_service, gates) = world.simple().await;
    let mine = token("u1", "s1", 0, 0);
    let mut stream = begin(&client, "numbers", &mine).await;
    let caller = client.bearer(&mine);
    let called = tokio::spawn(async move { caller.send::<u64>("long", &()).await });
    soon(gates.begun.acquire()).await.unwrap().forget();
    world.revoker.session("s1").await.unwrap();
    // What ends the stream is known to the guard of both.
    assert_eq!(end(&mut stream).await, 401);
    gates.go.add_permits(1);
    assert_eq!(soon(called).await.unwrap().unwrap(), 7);
}
