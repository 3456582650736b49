//! Tokens that were revoked, and guards that cannot tell.

use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use futures::future::join_all;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Connection, ConnectionState, NatsConfig, ServiceHandle};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::JwtConfig;
use nats_rpc_jwt::{Revocations, Revoker};
use nats_rpc_tests::proxy::{Proxy, Which};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::capture;
use super::forge::unb64;
use super::guarded::{Guarded, secret};
use super::harness::{self, Outcome, cases};
use super::services::{self, PASSWORD, User, credentials};
use crate::support::{client, nats, soon};

const SECOND: Duration = Duration::from_secs(1);

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "revocation-01" => a_revoked_token_that_is_cached,
        "revocation-02" => a_session_that_was_logged_out,
        "revocation-04" => log_ins_beside_a_log_out_everywhere,
        "revocation-05" => a_service_that_was_not_there,
        "revocation-07" => a_bucket_that_is_gone,
        "revocation-08" => a_black_hole,
        "revocation-10" => revocations_that_have_expired,
        "revocation-11" => a_revocation_over_a_marker,
        "revocation-13" => epochs_of_user_and_realm,
        "own-revocation-unreadable" => an_entry_that_cannot_be_read,
    ];
    harness::run(World::start, cases).await
}

/// The auth service, a guarded service that knows what is revoked, and who revokes.
struct World {
    _auth: ServiceHandle,
    client: Client,
    guarded: Guarded,
    revocations: Revocations,
    revoker: Revoker,
    connection: Connection,
    server: NatsServer,
}

impl World {
    async fn start() -> Self {
        let server = server();
        let auth = services::auth(&server, &[]).await;
        let connection = Connection::open(&nats(&server)).await.unwrap();
        let revocations = Revocations::watch(&connection).await.unwrap();
        Self {
            _auth: auth,
            client: client(&server).await,
            guarded: guarded(&server, "revocable", revocations.clone()).await,
            revocations,
            revoker: Revoker::open(&connection).await.unwrap(),
            connection,
            server,
        }
    }

    async fn signed_up(&self, name: &str) -> User {
        services::sign_up(&self.client, &format!("{name}@example.com")).await
    }

    /// The epoch of the access token that a log-in gives, and the token.
    async fn log_in(&self, name: &str) -> Option<(u64, String)> {
        let credentials = credentials(&format!("{name}@example.com"), PASSWORD);
        let answer: Value = self.client.send("auth.login", &credentials).await.ok()?;
        let token = capture::secret(answer["accessToken"].as_str().unwrap().to_owned());
        Some((claims_of(&token)["ep"].as_u64().unwrap_or(0), token))
    }

    /// Waits until the guarded service has heard of all that was revoked so far.
    async fn knows_all(&self) {
        let last = token("fence", &format!("fence-{:016x}", fastrand::u64(..)));
        self.guarded.takes(&last).await;
        self.revoker.session(claims_of(&last)["sid"].as_str().unwrap()).await.unwrap();
        ends(&self.guarded, &last).await;
    }
}

/// A service that refuses what is revoked, at the time of the system.
async fn guarded(server: &NatsServer, name: &'static str, revocations: Revocations) -> Guarded {
    Guarded::start(server, name, JwtConfig::hs256(secret()).revocations(revocations)).await
}

fn token(sub: &str, sid: &str) -> String {
    in_epochs(sub, sid, 0, 0)
}

fn in_epochs(sub: &str, sid: &str, user: u64, global_epoch: u64) -> String {
    issue(&TokenIssuer::hs256(&secret()), &Grant::new(sub, sid).epoch(user).global_epoch(global_epoch))
}

fn issue(issuer: &TokenIssuer, grant: &Grant<'_>) -> String {
    capture::secret(issuer.issue(grant).unwrap())
}

fn claims_of(token: &str) -> Value {
    serde_json::from_slice(&unb64(token.split('.').nth(1).unwrap())).unwrap()
}

/// Waits until `is_so`, however slow the machine is.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    soon(async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Waits until a token that was taken is not any more, and asserts that it is then refused like any other.
async fn ends(guarded: &Guarded, token: &str) {
    until(async || guarded.code_for(token).await == 401).await;
    guarded.refuses(token).await;
}

async fn a_revoked_token_that_is_cached(world: &World) {
    let (revoked, other) = (token("u01", "s01"), token("u01", "s01"));
    // The second time, it is known already.
    for _ in 0..2 {
        world.guarded.takes(&revoked).await;
    }
    world.revoker.token(claims_of(&revoked)["jti"].as_str().unwrap()).await.unwrap();
    ends(&world.guarded, &revoked).await;
    // The same user, the same session, another token.
    world.guarded.takes(&other).await;
}

async fn a_session_that_was_logged_out(world: &World) {
    let user = world.signed_up("u02").await;
    let (_, other) = world.log_in("u02").await.unwrap();
    for _ in 0..2 {
        world.guarded.takes(&user.access_token).await;
    }
    world.client.send::<()>("auth.logout", &json!({ "refreshToken": user.refresh_token })).await.unwrap();
    ends(&world.guarded, &user.access_token).await;
    // The same user, another session.
    world.guarded.takes(&other).await;

    let (first, second) = (token("u02", "s02"), token("u02", "s02"));
    for token in [&first, &second] {
        world.guarded.takes(token).await;
    }
    world.revoker.session("s02").await.unwrap();
    for token in [&first, &second] {
        ends(&world.guarded, token).await;
    }
    // One that is made for it afterwards is no better.
    world.guarded.refuses(token("u02", "s02")).await;
    world.guarded.takes(token("u02", "s02-other")).await;
}

/// Whichever comes first: a token of the old epoch is refused, one of the new epoch is taken.
async fn log_ins_beside_a_log_out_everywhere(world: &World) {
    let user = world.signed_up("u04").await;
    let (mut bearer, mut refused, mut taken) = (user.access_token, 0, 0);
    for round in 1..=4 {
        let caller = world.client.clone().bearer(&bearer);
        let pair = async || join_all((0..2).map(|_| world.log_in("u04"))).await;
        let mut log_ins = pair().await;
        // One that meets the end of all sessions may be told to come again.
        let out = async { caller.send::<()>("auth.logout_all", &json!({})).await.unwrap() };
        let ((), met, met_too) = tokio::join!(out, pair(), pair());
        log_ins.extend(met.into_iter().chain(met_too));
        log_ins.extend(pair().await);
        let tokens = log_ins.into_iter().flatten();
        world.knows_all().await;
        world.guarded.refuses(&bearer).await;
        for (epoch, token) in tokens {
            match epoch < round {
                true => world.guarded.refuses(&token).await,
                false => drop(world.guarded.takes(&token).await),
            }
            *if epoch < round { &mut refused } else { &mut taken } += 1;
        }
        let (epoch, next) = world.log_in("u04").await.unwrap();
        assert_eq!(epoch, round);
        world.guarded.takes(&next).await;
        bearer = next;
    }
    assert!(refused >= 8 && taken >= 8, "two log-ins before and two behind each: {refused} refused, {taken} taken");

    // Of epochs that are raised at once, the highest stands.
    for raised in join_all((1..=16).map(|epoch| world.revoker.user("u04", epoch))).await {
        raised.unwrap();
    }
    ends(&world.guarded, &in_epochs("u04", "s04", 15, 0)).await;
    world.guarded.takes(in_epochs("u04", "s04", 16, 0)).await;
}

async fn a_service_that_was_not_there(world: &World) {
    let (revoked, good) = (token("u05", "s05"), token("u05", "s05-other"));
    world.revoker.session("s05").await.unwrap();
    for name in ["started-late", "started-again"] {
        let connection = Connection::open(&nats(&world.server)).await.unwrap();
        let revocations = Revocations::watch(&connection).await.unwrap();
        let guarded = guarded(&world.server, name, revocations).await;
        // From its first request on, without waiting for news.
        guarded.refuses(&revoked).await;
        guarded.takes(&good).await;
    }
}

/// Closed, unless a handler says otherwise: then it takes tokens until they expire, and says so once.
async fn a_bucket_that_is_gone(_: &World) {
    const STALE: &str = "nothing proves that all revocations are known";
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    Revoker::provision(&connection.jetstream(), 1).await.unwrap();
    let revoker = Revoker::open(&connection).await.unwrap();
    let revocations = Revocations::watch_within(&connection, SECOND / 2).await.unwrap();
    let hand = super::guarded::Hand::at(super::forge::NOW);
    let config = JwtConfig::hs256(secret()).clock(hand.clock()).revocations(revocations.clone());
    let guarded = Guarded::start(&server, "gone", config).await;
    let issuer = TokenIssuer::hs256(&secret()).clock(hand.clock());
    let (good, revoked) = (issue(&issuer, &Grant::new("u07", "s07")), issue(&issuer, &Grant::new("u07", "s07-ended")));
    guarded.takes(&good).await;
    revoker.session("s07-ended").await.unwrap();
    ends(&guarded, &revoked).await;
    let told = || capture::times(STALE);
    let before = told();

    connection.jetstream().delete_key_value("auth_rev").await.unwrap();
    until(async || revocations.is_stale()).await;
    for _ in 0..3 {
        assert_eq!(guarded.code_for(&good).await, 503);
        harness::refused();
        guarded.lets("stale", &good).await;
    }
    // What is known to be revoked is refused even so, and so is what was never good.
    for bad in [revoked.as_str(), "e30.e30.AAAA"] {
        assert_eq!(guarded.code_at("stale", bad).await, 401);
        harness::refused();
    }
    hand.set(super::forge::NOW + 905);
    assert_eq!(guarded.code_at("stale", &good).await, 401);
    harness::refused();
    assert_eq!(told(), before + 1, "said once");

    hand.set(super::forge::NOW);
    Revoker::provision(&connection.jetstream(), 1).await.unwrap();
    until(async || !revocations.is_stale()).await;
    guarded.takes(&good).await;
}

/// The socket stays open and nothing comes: what shows it is the age of the last proof.
async fn a_black_hole(world: &World) {
    let proxy = Proxy::to(world.server.port()).start().await.unwrap();
    let connection = Connection::open(&NatsConfig::new(proxy.url())).await.unwrap();
    let revocations = Revocations::watch_within(&connection, SECOND).await.unwrap();
    // Its requests come on a connection of their own, which is well.
    let guarded = guarded(&world.server, "hole", revocations.clone()).await;
    let (revoked, good) = (token("u08", "s08"), token("u08", "s08-other"));
    guarded.takes(&revoked).await;
    proxy.freeze(Which::All);
    let frozen = Instant::now();
    world.revoker.session("s08").await.unwrap();
    until(async || revocations.is_stale()).await;
    assert!(frozen.elapsed() >= SECOND / 2, "it cannot have been told so soon");
    assert!(matches!(connection.state(), ConnectionState::Connected), "{:?}", connection.state());
    for token in [&revoked, &good] {
        assert_eq!(guarded.code_for(token).await, 503);
        harness::refused();
    }
    proxy.resume(Which::All);
    until(async || !revocations.is_stale()).await;
    ends(&guarded, &revoked).await;
    guarded.takes(&good).await;
}

async fn revocations_that_have_expired(world: &World) {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    Revoker::provision(&connection.jetstream(), 1).await.unwrap();
    let revocations = Revocations::watch(&connection).await.unwrap();
    let revoker = Revoker::open(&connection).await.unwrap().retention_at_least_the_lifetime_of_tokens(SECOND);
    let config = JwtConfig::hs256(secret()).leeway(Duration::ZERO).revocations(revocations.clone());
    let guarded = Guarded::start(&server, "expiring", config).await;
    let issuer = TokenIssuer::hs256(&secret()).lifetime(SECOND);
    let short = issue(&issuer, &Grant::new("u10", "s10-0"));
    let baseline = revocations.len();
    for revoked in join_all((0..50).map(|n| {
        let revoker = &revoker;
        async move { revoker.session(&format!("s10-{n}")).await }
    }))
    .await
    {
        revoked.unwrap();
    }
    until(async || guarded.code_for(&short).await == 401).await;
    harness::refused();
    until(async || revocations.len() == baseline).await;
    // What was revoked is forgotten when it has long expired.
    guarded.refuses_as_expired(&short).await;
    guarded.takes(token("u10", "s10-other")).await;
    world.guarded.takes(token("u10", "s10-other")).await;
}

async fn a_revocation_over_a_marker(world: &World) {
    let revoker = Revoker::open(&world.connection).await.unwrap();
    let bucket: kv::Store = world.connection.jetstream().get_key_value("auth_rev").await.unwrap();
    let ttl = async || {
        let stored = soon(bucket.stream.get_last_raw_message_by_subject("$KV.auth_rev.sid.s11")).await.unwrap();
        stored.headers.get("Nats-TTL").map(|ttl| ttl.as_str().parse::<u64>().unwrap())
    };
    let token = token("u11", "s11");
    for removed in ["nothing", "deleted", "purged"] {
        match removed {
            "deleted" => bucket.delete("sid.s11").await.unwrap(),
            "purged" => bucket.purge("sid.s11").await.unwrap(),
            _ => {}
        }
        until(async || world.guarded.code_for(&token).await == 0).await;
        world.guarded.takes(&token).await;
        revoker.session("s11").await.unwrap();
        assert!(ttl().await.is_some_and(|seconds| seconds >= 3_600), "over {removed}: {:?}", ttl().await);
        ends(&world.guarded, &token).await;
    }
}

/// Whichever is stricter decides, whatever the other says and whichever came first.
async fn epochs_of_user_and_realm(_: &World) {
    for realm_first in [true, false] {
        let server = server();
        let connection = Connection::open(&nats(&server)).await.unwrap();
        Revoker::provision(&connection.jetstream(), 1).await.unwrap();
        let revocations = Revocations::watch(&connection).await.unwrap();
        let revoker = Revoker::open(&connection).await.unwrap();
        let guarded = guarded(&server, "epochs", revocations).await;
        guarded.takes(in_epochs("u13", "s13", 0, 0)).await;
        if realm_first {
            assert_eq!(revoker.everybody().await.unwrap(), 1);
        }
        revoker.user("u13", 2).await.unwrap();
        if !realm_first {
            assert_eq!(revoker.everybody().await.unwrap(), 1);
        }
        // The last of what was written has arrived, and so has all before it.
        let last = in_epochs("u13", "s13-last", 9, 9);
        guarded.takes(&last).await;
        revoker.session("s13-last").await.unwrap();
        ends(&guarded, &last).await;
        for (user, global_epoch) in [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (0, 9), (u64::MAX, 0)] {
            guarded.refuses(in_epochs("u13", "s13", user, global_epoch)).await;
        }
        guarded.takes(in_epochs("u13", "s13", 2, 1)).await;
        // Others are under the global epoch alone, and zero lifts nothing.
        guarded.refuses(in_epochs("other", "s13", 7, 0)).await;
        guarded.takes(in_epochs("other", "s13", 0, 1)).await;
        revoker.user("u13", 0).await.unwrap();
        guarded.refuses(in_epochs("u13", "s13", 1, 1)).await;
    }
}

/// It is taken for the strictest that it can be, not for nothing.
async fn an_entry_that_cannot_be_read(world: &World) {
    let bucket: kv::Store = world.connection.jetstream().get_key_value("auth_rev").await.unwrap();
    let (hit, other) = (token("u14", "s14"), token("u14", "s14-other"));
    world.guarded.takes(&hit).await;
    bucket.put("sid.s14", "\u{0}not json".into()).await.unwrap();
    ends(&world.guarded, &hit).await;
    bucket.put("what.is.this", "{}".into()).await.unwrap();
    bucket.purge("sid.s14").await.unwrap();
    until(async || world.guarded.code_for(&hit).await == 0).await;
    world.guarded.takes(&other).await;
    assert!(!world.revocations.is_stale());
}
