//! Revocations on a real JetStream: how they arrive, how they last, and what happens while nobody can tell.

mod copies;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::kv;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Connection, KvError, NatsConfig, ServiceHandle};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{FailOpenJwtGuard, JwtRejection, RevocationBucketError, Revocations, Revoker};
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::proxy::{Proxy, Which};
use nats_rpc_tests::server;

use crate::support::{PATIENCE, client, nats, soon};

const SECOND: Duration = Duration::from_secs(1);

fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", [7; 32]).unwrap()
}

/// An access token of `sub` in session `sid`.
fn token(sub: &str, sid: &str, epoch: u64, global_epoch: u64) -> String {
    TokenIssuer::hs256(&secret()).issue(&Grant::new(sub, sid).epoch(epoch).global_epoch(global_epoch)).unwrap()
}

struct World {
    server: NatsServer,
    connection: Connection,
    revoker: Revoker,
}

impl World {
    async fn new() -> Self {
        let server = server();
        let connection = connect(&server).await;
        Revoker::provision(&connection.jetstream(), 1).await.unwrap();
        let revoker = Revoker::open(&connection).await.unwrap();
        Self { server, connection, revoker }
    }

    /// A service with a connection of its own.
    async fn service(&self, name: &str) -> ServiceHandle {
        self.service_at(name, nats(&self.server), 30 * SECOND).await
    }

    async fn service_at(&self, name: &str, nats: NatsConfig, max_stale: Duration) -> ServiceHandle {
        let service = Service::new(name, "1.0.0")
            .handlers(handlers![who, who_though])
            .subject_prefix(name)
            .guard(move |context: ServiceContext| guard(context.connection().clone(), max_stale));
        soon(service.start(nats)).await.unwrap()
    }
}

async fn connect(server: &NatsServer) -> Connection {
    Connection::open(&nats(server)).await.unwrap()
}

async fn guard(
    connection: Connection,
    max_stale: Duration,
) -> Result<JwtGuard, Box<dyn std::error::Error + Send + Sync>> {
    let revocations = Revocations::watch_within(&connection, max_stale).await?;
    Ok(JwtGuard::new(JwtConfig::hs256(secret()).revocations(revocations))?)
}

#[message_pattern("who")]
#[use_guards(JwtGuard)]
async fn who(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

#[message_pattern("who.though")]
#[use_guards(FailOpenJwtGuard)]
async fn who_though(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

/// The code that a call with `token` ends with; 200 for an answer.
async fn call(client: &Client, subject: &str, token: &str) -> u16 {
    match soon(client.bearer(token).send::<String>(subject, &())).await {
        Ok(_) => 200,
        Err(nats_rpc::CallError::Remote(error)) => error.status(),
        Err(error) => panic!("{error}"),
    }
}

/// Asks until `is_so`, for as long as anything that works takes.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it does not come about");
}

#[tokio::test]
async fn revocation_01_02_05_three_services_refuse_what_was_revoked_also_after_a_restart() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let mut services = Vec::new();
    for name in ["one", "two", "three"] {
        services.push(world.service(name).await);
    }
    let (revoked, good) = (token("u1", "s1", 0, 0), token("u1", "s2", 0, 0));
    // The second time, the token is known already.
    for _ in 0..2 {
        for name in ["one", "two", "three"] {
            assert_eq!(call(&client, &format!("{name}.who"), &revoked).await, 200);
        }
    }
    world.revoker.session("s1").await.unwrap();
    for name in ["one", "two", "three"] {
        until(async || call(&client, &format!("{name}.who"), &revoked).await == 401).await;
        assert_eq!(call(&client, &format!("{name}.who"), &good).await, 200);
    }
    soon(services.remove(0).stop()).await;
    let _again = world.service("one").await;
    assert_eq!(call(&client, "one.who", &revoked).await, 401);
    assert_eq!(call(&client, "one.who.though", &revoked).await, 401);
    assert_eq!(call(&client, "one.who", &good).await, 200);
}

#[tokio::test]
async fn a_token_a_session_a_user_and_everybody_can_be_revoked() {
    let world = World::new().await;
    let revocations = Revocations::watch(&world.connection).await.unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret()).revocations(revocations.clone())).unwrap();
    let refused = |token: &str| guard.verify(token).err() == Some(JwtRejection::Revoked);
    let (one, same_session) = (token("u1", "s1", 0, 0), token("u1", "s1", 0, 0));
    let (other_session, later, other_user) =
        (token("u1", "s2", 0, 0), token("u1", "s3", 2, 0), token("u2", "s4", 0, 0));
    let everything = [&one, &same_session, &other_session, &later, &other_user];
    assert!(everything.iter().all(|token| !refused(token)));

    world.revoker.token(&claim(&one, "jti")).await.unwrap();
    until(async || refused(&one)).await;
    assert_eq!(everything.map(|token| refused(token)), [true, false, false, false, false]);

    world.revoker.session("s1").await.unwrap();
    until(async || refused(&same_session)).await;
    assert_eq!(everything.map(|token| refused(token)), [true, true, false, false, false]);

    world.revoker.user("u1", 2).await.unwrap();
    until(async || refused(&other_session)).await;
    assert_eq!(everything.map(|token| refused(token)), [true, true, true, false, false]);

    assert_eq!(world.revoker.everybody().await.unwrap(), 1);
    until(async || refused(&other_user)).await;
    assert!(everything.iter().all(|token| refused(token)));
    assert!(!refused(&token("u2", "s5", 0, 1)) && refused(&token("u1", "s5", 1, 1)));
    assert_eq!(revocations.global_epoch(), Ok(1));
    // Epochs fall neither by a revocation that comes late nor by another deployment.
    world.revoker.user("u1", 1).await.unwrap();
    Revoker::provision(&world.connection.jetstream(), 1).await.unwrap();
    world.revoker.session("last").await.unwrap();
    until(async || refused(&token("u9", "last", 0, 1))).await;
    assert!(refused(&token("u1", "s6", 1, 1)) && refused(&token("u2", "s6", 0, 0)));
}

/// A claim of a token, by whoever holds it.
fn claim(token: &str, name: &str) -> String {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice::<serde_json::Value>(&claims).unwrap()[name].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn revocation_04_of_epochs_raised_at_once_the_highest_stands() {
    let world = World::new().await;
    let revoker = Arc::new(world.revoker);
    // No more than one of them can lose to.
    let raised = (1..=16).map(|epoch| {
        let revoker = revoker.clone();
        tokio::spawn(async move { revoker.user("u1", epoch).await })
    });
    for result in join_all(raised).await {
        result.unwrap().unwrap();
    }
    let everybody = (0..16).map(|_| revoker.everybody());
    let mut epochs: Vec<_> = join_all(everybody).await.into_iter().map(Result::unwrap).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=16).collect::<Vec<_>>());

    let revocations = Revocations::watch(&world.connection).await.unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret()).revocations(revocations)).unwrap();
    assert_eq!(guard.verify(&token("u1", "s1", 15, 16)).unwrap_err(), JwtRejection::Revoked);
    assert!(guard.verify(&token("u1", "s1", 16, 16)).is_ok());
}

#[tokio::test]
async fn revocation_10_11_entries_expire_again_and_again_and_memory_is_given_back() {
    let world = World::new().await;
    let revoker = world.revoker.retention_at_least_the_lifetime_of_tokens(SECOND);
    let revocations = Revocations::watch(&world.connection).await.unwrap();
    assert!(revocations.is_empty());
    let bucket = connect(&world.server).await.jetstream().get_key_value("auth_rev").await.unwrap();
    // Over nothing, over the marker of an expiry, over the marker of a deletion.
    for round in 0..3 {
        for n in 0..100 {
            revoker.session(&format!("s{n}")).await.unwrap();
        }
        revoker.user("u1", round + 1).await.unwrap();
        until(async || revocations.len() == 101).await;
        let stored = bucket.stream.get_last_raw_message_by_subject("$KV.auth_rev.sid.s7").await.unwrap();
        assert_eq!(stored.headers.get("Nats-TTL").map(|ttl| ttl.as_str()), Some("1"), "round {round}");
        if round == 1 {
            bucket.delete("sid.s7").await.unwrap();
            revoker.session("s7").await.unwrap();
        }
        until(async || revocations.is_empty()).await;
        until(async || bucket.get("sid.s7").await.unwrap().is_none()).await;
    }
}

#[tokio::test]
async fn an_epoch_that_is_no_higher_than_the_known_one_is_not_written() {
    let world = World::new().await;
    let store = world.connection.jetstream().get_key_value("auth_rev").await.unwrap();
    let last = async || store.stream.get_info().await.unwrap().state.last_sequence;
    world.revoker.user("u1", 4).await.unwrap();
    let written = last().await;
    for known in [4, 3] {
        world.revoker.user("u1", known).await.unwrap();
        assert_eq!(last().await, written, "{known}");
    }
    world.revoker.user("u1", 5).await.unwrap();
    assert_eq!(last().await, written + 1);
}

#[tokio::test]
async fn the_epoch_of_a_user_is_forgotten_after_every_token_and_that_of_everybody_never() {
    let world = World::new().await;
    world.revoker.user("u1", 4).await.unwrap();
    world.revoker.everybody().await.unwrap();
    let stream = world.connection.jetstream().get_stream("KV_auth_rev").await.unwrap();
    for (key, lives) in [("$KV.auth_rev.ep.*", Some("3665")), ("$KV.auth_rev.realm", None)] {
        let stored = stream.get_last_raw_message_by_subject(key).await.unwrap();
        assert_eq!(stored.headers.get("Nats-TTL").map(|ttl| ttl.as_str()), lives, "{key}");
    }
}

#[tokio::test]
async fn a_start_waits_for_everything_that_was_revoked() {
    let world = World::new().await;
    join_all((0..1_000).map(async |n| world.revoker.session(&format!("s{n}")).await.unwrap())).await;
    let revocations = soon(Revocations::watch(&world.connection)).await.unwrap();
    assert_eq!(revocations.len(), 1_000);
}

#[tokio::test]
async fn another_bucket_of_the_name_is_read_from_its_beginning() {
    let world = World::new().await;
    // The sequences of the first one are ahead of all that the second will have.
    join_all((0..50).map(async |n| world.revoker.session(&format!("old{n}")).await.unwrap())).await;
    let bound = Duration::from_millis(200);
    let revocations = soon(Revocations::watch_within(&world.connection, bound)).await.unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret()).revocations(revocations)).unwrap();
    let jetstream = world.connection.jetstream();
    jetstream.delete_key_value("auth_rev").await.unwrap();
    Revoker::provision(&jetstream, 1).await.unwrap();
    world.revoker.session("new").await.unwrap();
    // The watch alone would notice after 10 s, by the heartbeats that it misses.
    tokio::time::timeout(5 * SECOND, async {
        until(async || guard.verify(&token("u1", "new", 0, 0)).err() == Some(JwtRejection::Revoked)).await;
        until(async || guard.verify(&token("u1", "old0", 0, 0)).is_ok()).await;
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn revocation_08_a_black_hole_is_outlived_and_nothing_is_missed() {
    let world = World::new().await;
    let proxy = Proxy::to(world.server.port()).start().await.unwrap();
    let connection = Connection::open(&NatsConfig::new(proxy.url())).await.unwrap();
    let revocations = Revocations::watch(&connection).await.unwrap();
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret()).revocations(revocations)).unwrap();
    let (revoked, good) = (token("u1", "s1", 0, 0), token("u1", "s2", 0, 0));
    proxy.freeze(Which::All);
    world.revoker.session("s1").await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    // Nobody could know; that is what the bound on staleness is for.
    assert!(guard.verify(&revoked).is_ok());
    proxy.resume(Which::All);
    until(async || guard.verify(&revoked).err() == Some(JwtRejection::Revoked)).await;
    assert!(guard.verify(&good).is_ok());
}

#[tokio::test]
async fn revocation_07_while_nobody_can_tell_a_handler_answers_503_unless_it_says_otherwise() {
    let world = World::new().await;
    let client = client(&world.server).await;
    let good = token("u1", "s1", 0, 0);
    let _service = world.service_at("open", nats(&world.server), SECOND).await;
    assert_eq!(call(&client, "open.who", &good).await, 200);
    // The bucket is gone: nobody proves anything any more, and requests still come.
    world.connection.jetstream().delete_key_value("auth_rev").await.unwrap();
    until(async || call(&client, "open.who", &good).await == 503).await;
    assert_eq!(call(&client, "open.who.though", &good).await, 200);
    assert_eq!(call(&client, "open.who", "e30.e30.AAAA").await, 401);
    // It comes back, as another stream.
    Revoker::provision(&world.connection.jetstream(), 1).await.unwrap();
    world.revoker.session("s2").await.unwrap();
    until(async || call(&client, "open.who", &good).await == 200).await;
    until(async || call(&client, "open.who", &token("u1", "s2", 0, 0)).await == 401).await;
}

#[tokio::test]
async fn without_another_bound_what_nothing_proves_for_30_s_is_stale() {
    let world = World::new().await;
    let revocations = Revocations::watch(&world.connection).await.unwrap();
    assert!(format!("{revocations:?}").contains("max_stale: 30s"), "{revocations:?}");
}

#[tokio::test]
async fn the_bucket_has_to_be_provisioned_and_can_be_again() {
    let server = server();
    let connection = connect(&server).await;
    let missing = Revocations::watch(&connection).await;
    assert!(matches!(missing, Err(RevocationBucketError::Bucket(KvError::Missing { .. }))), "{missing:?}");
    assert!(Revoker::open(&connection).await.is_err());

    let jetstream = connection.jetstream();
    let plain = kv::Config { bucket: "auth_rev".to_owned(), ..kv::Config::default() };
    jetstream.create_key_value(plain).await.unwrap();
    assert!(matches!(Revoker::open(&connection).await, Err(RevocationBucketError::NoTtl)));
    for _ in 0..2 {
        Revoker::provision(&jetstream, 1).await.unwrap();
        Revoker::open(&connection).await.unwrap();
        Revocations::watch(&connection).await.unwrap();
    }
}
