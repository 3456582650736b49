//! Refresh tokens that are old, forged, raced for, or read from the bucket.

mod forged;

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::kv;
use futures::StreamExt;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Connection, ServiceHandle};
use nats_rpc_auth::{Owner, SessionConfig, Sessions};
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_jwt::{Revocations, Revoker};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use self::forged::{with_generation, with_secret};
use super::capture;
use super::forge::{b64, unb64};
use super::guarded::{Guarded, secret};
use super::harness::{self, Outcome, cases};
use super::services::{self, REFRESH_SECRET, User};
use crate::support::{client, nats, soon};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "refresh-01" => replay_after_grace,
        "refresh-02" => a_grandparent_within_grace,
        "refresh-04" => thirty_two_at_once_over_four_instances,
        "refresh-05" => forged::a_forged_secret_of_a_known_session,
        "refresh-07" => forged::generations_out_of_bounds,
        "refresh-08" => past_the_end,
        "refresh-10" => forged::a_dump_of_the_bucket,
        "refresh-11" => log_out_with_an_old_token,
        "refresh-13" => more_sessions_than_a_user_may_have,
        "own-refresh-spelling" => forged::a_token_in_another_spelling,
        "own-refresh-crossed" => forged::the_secret_of_another_session,
        "own-refresh-logged-out" => a_token_after_log_out,
    ];
    harness::run(World::start, cases).await
}

/// Four instances of auth, and others that refresh by a clock of their own, one with a cap of three sessions.
struct World {
    auth: Vec<ServiceHandle>,
    client: Client,
    /// Refuses the access tokens of sessions that have ended.
    guarded: Guarded,
    bucket: kv::Store,
    ahead: Hand,
    _ahead: [ServiceHandle; 2],
    server: NatsServer,
}

/// How far a clock is ahead of the others.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn set(&self, ahead: Duration) {
        self.0.store(ahead.as_secs(), Ordering::SeqCst);
    }

    fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let ahead = Arc::clone(&self.0);
        move || SystemTime::now() + Duration::from_secs(ahead.load(Ordering::SeqCst))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

/// As `auth.refresh`, at the time of a clock that is ahead.
#[message_pattern("ahead.refresh")]
#[public]
async fn refresh_ahead(
    State(sessions): State<Arc<Sessions>>,
    Payload(Refresh { refresh_token }): Payload<Refresh>,
) -> Result<Value, RpcError> {
    let issued = sessions.refresh(&refresh_token).await?;
    Ok(json!({ "refreshToken": issued.refresh_token }))
}

/// Begins a session of this user, as a log-in does that has checked the password.
#[message_pattern("ahead.begin")]
#[public]
async fn begin(State(sessions): State<Arc<Sessions>>, Payload(user): Payload<String>) -> Result<Value, RpcError> {
    let issued = sessions.create(Owner::new(user, "no account")).await?;
    Ok(json!({ "refreshToken": issued.refresh_token }))
}

/// How many sessions this user has.
#[message_pattern("ahead.count")]
#[public]
async fn count(State(sessions): State<Arc<Sessions>>, Payload(user): Payload<String>) -> Result<usize, RpcError> {
    Ok(sessions.list(&user).await?.len())
}

impl World {
    async fn start() -> Self {
        let server = server();
        let mut auth = Vec::new();
        for _ in 0..4 {
            auth.push(services::auth(&server, &[]).await);
        }
        let connection = Connection::open(&nats(&server)).await.unwrap();
        let bucket = connection.jetstream().get_key_value("auth_sess").await.unwrap();
        let ahead = Hand::default();
        let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
        Revoker::provision(&connection.jetstream(), 1).await.unwrap();
        let revoker = Arc::new(Revoker::open(&connection).await.unwrap());
        let config = || SessionConfig::new(&pepper).clock(ahead.clock()).revoker(revoker.clone());
        let service = async |name: &str, config| {
            let sessions = Arc::new(Sessions::open(&connection, config).await.unwrap());
            Service::new(name, "1.0.0").handlers(handlers![refresh_ahead, begin, count]).provide(sessions)
        };
        let few = config().cap(NonZeroUsize::new(3).unwrap());
        let few = service("few", few).await.subject_prefix("few");
        let started = [service("ahead", config()).await.start(nats(&server)).await, few.start(nats(&server)).await];
        let revocations = Revocations::watch(&connection).await.unwrap();
        let guarded = JwtConfig::hs256(secret()).revocations(revocations);
        Self {
            auth,
            client: client(&server).await,
            guarded: Guarded::start(&server, "guarded", guarded).await,
            bucket,
            ahead,
            _ahead: started.map(Result::unwrap),
            server,
        }
    }

    async fn user(&self) -> User {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let email = format!("refresh-{}@example.com", NEXT.fetch_add(1, Ordering::SeqCst));
        services::sign_up(&self.client, &email).await
    }

    async fn ask(&self, subject: &str, token: &str) -> Result<String, CallError> {
        let answer: Value = self.client.send(subject, &json!({ "refreshToken": capture::secret(token) })).await?;
        Ok(capture::secret(answer["refreshToken"].as_str().unwrap().to_owned()))
    }

    /// The successor of a token that is taken.
    #[track_caller]
    fn refreshed(&self, token: &str) -> impl Future<Output = String> {
        self.taken("auth.refresh", token)
    }

    #[track_caller]
    fn taken(&self, subject: &str, token: &str) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            let successor = self.ask(subject, token).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            harness::passed();
            successor
        }
    }

    #[track_caller]
    fn refuses(&self, subject: &str, token: impl AsRef<str>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let error = match self.ask(subject, token.as_ref()).await {
                Ok(_) => panic!("{place}: {:.100} is taken", token.as_ref()),
                Err(error) => error,
            };
            // Whether it was forged, used before, or never was, the caller does not learn.
            let CallError::Remote(error) = &error else { panic!("{place}: {error}") };
            let answer = (error.code(), error.message());
            assert_eq!(answer, (Some(Code::Unauthenticated), "invalid refresh token"), "{place}");
            harness::refused();
        }
    }

    /// Waits until an access token is not taken any more, and asserts that it is refused like any other.
    async fn ends(&self, access_token: &str) {
        soon(async {
            while self.guarded.code_for(access_token).await == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        self.guarded.refuses(access_token).await;
    }

    /// The revision at which the session of `token` stands.
    async fn revision(&self, token: &str) -> u64 {
        soon(self.bucket.entry(session_of(token))).await.unwrap().unwrap().revision
    }
}

/// The key of a token's session: its id, of which the user's part stands before the dot.
fn session_of(token: &str) -> String {
    let mut key = b64(&bytes_of(token)[..16]);
    key.insert(8, '.');
    key
}

fn bytes_of(token: &str) -> Vec<u8> {
    unb64(token.strip_prefix("nrt1.").unwrap())
}

async fn replay_after_grace(world: &World) {
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    // Within the grace period it is a lost answer: the same successor again.
    world.ahead.set(Duration::from_secs(8));
    assert_eq!(world.taken("ahead.refresh", &user.refresh_token).await, second);
    let third = world.refreshed(&second).await;
    world.refreshed(&third).await;

    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    world.ahead.set(Duration::from_secs(11));
    world.refuses("ahead.refresh", &user.refresh_token).await;
    // Whoever holds the live token has lost it, at every instance, and the access tokens with it.
    world.ends(&user.access_token).await;
    world.refuses("auth.refresh", &second).await;
    world.refuses("ahead.refresh", &second).await;
}

async fn a_grandparent_within_grace(world: &World) {
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    let third = world.refreshed(&second).await;
    assert_eq!(world.refreshed(&second).await, third);
    let nats = crate::support::foreign(&world.server).await;
    let mut audit = nats.subscribe("auth.audit.>").await.unwrap();
    soon(nats.flush()).await.unwrap();
    world.refuses("auth.refresh", &user.refresh_token).await;
    for token in [&second, &third] {
        world.refuses("auth.refresh", token).await;
    }
    let told = soon(audit.next()).await.unwrap();
    let told: Value = serde_json::from_slice(&told.payload).unwrap();
    assert_eq!((&told["event"], &told["user"]), (&json!("token_reused"), &json!(user.id)));
}

async fn thirty_two_at_once_over_four_instances(world: &World) {
    let user = world.user().await;
    let mut token = user.refresh_token;
    for round in 0..5 {
        let before = world.revision(&token).await;
        let answers = join_all((0..32).map(|_| world.ask("auth.refresh", &token))).await;
        let successors: HashSet<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        assert_eq!(world.revision(&token).await, before + 1, "one rotation in round {round}");
        harness::passed();
        token = successors.into_iter().next().unwrap();
    }
    for auth in &world.auth {
        let stats = auth.stats();
        assert!(stats.iter().any(|stats| stats.handler == "refresh" && stats.requests > 0), "{stats:?}");
    }
    // The same 32, of a token that is of no use: nobody gets anything.
    let forged = with_secret(&token, [7; 32]);
    for answer in join_all((0..32).map(|_| world.ask("auth.refresh", &forged))).await {
        assert_eq!(answer.unwrap_err().code(), Some(Code::Unauthenticated));
        harness::refused();
    }
    world.refreshed(&token).await;
}

async fn past_the_end(world: &World) {
    // Left alone for seven days.
    let user = world.user().await;
    world.ahead.set(7 * DAY + Duration::from_secs(1));
    world.refuses("ahead.refresh", &user.refresh_token).await;
    world.ahead.set(7 * DAY - Duration::from_secs(60));
    let mut token = world.taken("ahead.refresh", &user.refresh_token).await;

    // Used every six days, it ends after thirty all the same.
    for days in [12, 18, 24] {
        world.ahead.set(days * DAY);
        token = world.taken("ahead.refresh", &token).await;
    }
    world.ahead.set(30 * DAY - Duration::from_secs(60));
    token = world.taken("ahead.refresh", &token).await;
    // The record goes with it: the server itself lets it end.
    let subject = format!("$KV.auth_sess.{}", session_of(&token));
    let stored = soon(world.bucket.stream.get_last_raw_message_by_subject(&subject)).await.unwrap();
    let ttl: u64 = stored.headers.get("Nats-TTL").unwrap().as_str().parse().unwrap();
    assert!((1..=62).contains(&ttl), "{ttl} s");
    world.ahead.set(30 * DAY + Duration::from_secs(1));
    world.refuses("ahead.refresh", &token).await;
    world.ahead.set(Duration::ZERO);
}

async fn log_out_with_an_old_token(world: &World) {
    let log_out = async |token: &str| {
        // One answer for every token, also one that ended nothing (RFC 7009, section 2.2).
        world.client.send::<()>("auth.logout", &json!({ "refreshToken": token })).await.unwrap();
    };
    let user = world.user().await;
    let second = world.refreshed(&user.refresh_token).await;
    let third = world.refreshed(&second).await;
    for forged in [with_secret(&user.refresh_token, [7; 32]), with_generation(&third, 1), with_generation(&third, 9)] {
        log_out(&forged).await;
    }
    // Forged ones ended nothing; a genuine one does, however old.
    let fourth = world.refreshed(&third).await;
    log_out(&user.refresh_token).await;
    world.refuses("auth.refresh", &fourth).await;
    world.refuses("auth.refresh", &third).await;
}

async fn a_token_after_log_out(world: &World) {
    let (ada, eve) = (world.user().await, world.user().await);
    world.client.send::<()>("auth.logout", &json!({ "refreshToken": ada.refresh_token })).await.unwrap();
    world.refuses("auth.refresh", &ada.refresh_token).await;
    world.refuses("ahead.refresh", &ada.refresh_token).await;
    world.refreshed(&eve.refresh_token).await;
}

/// The oldest end: fifty stay of a hundred, and three of as many with a cap of three.
async fn more_sessions_than_a_user_may_have(world: &World) {
    world.ahead.set(Duration::ZERO);
    let begin = async |service: &str| {
        let answer: Value = world.client.send(format!("{service}.begin"), "u13").await.unwrap();
        capture::secret(answer["refreshToken"].as_str().unwrap().to_owned())
    };
    for (service, cap) in [("ahead", 50), ("few.ahead", 3)] {
        let refresh = format!("{service}.refresh");
        let first = begin(service).await;
        let first = world.taken(&refresh, &first).await;
        let many: Vec<_> = futures::stream::iter(2..100).map(|_| begin(service)).buffered(8).collect().await;
        // Several that begin at once may be over the cap together; the next is not.
        let last = begin(service).await;
        assert_eq!(world.client.send::<usize>(format!("{service}.count"), "u13").await.unwrap(), cap);
        world.refuses(&refresh, &first).await;
        world.refuses(&refresh, &many[0]).await;
        world.taken(&refresh, &last).await;
    }
    // Of others, none was ended.
    let other = world.user().await;
    world.refreshed(&other.refresh_token).await;
}
