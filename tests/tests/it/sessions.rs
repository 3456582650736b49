//! Sessions on a real JetStream: rotation, races, reuse, expiry, log-out.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, kv};
use futures::StreamExt;
use futures::future::join_all;
use nats_rpc::auth::{Owner, Revoker, SessionBucketError, SessionConfig, SessionError, Sessions};
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, KvError, NatsConfig, SecretKey};
use nats_rpc_tests::server;

const SUBJECTS: &str = "$KV.auth_sess.";

fn pepper(byte: u8) -> SecretKey {
    SecretKey::new("JWT_REFRESH_SECRET", [byte; 32]).expect("32 bytes")
}

fn config() -> SessionConfig {
    SessionConfig::new(&pepper(1))
}

fn owner() -> Owner {
    Owner::new("u1", "k1")
}

/// A clock that tests move by hand.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }

    fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let (start, moved) = (SystemTime::now(), Arc::clone(&self.0));
        move || start + Duration::from_millis(moved.load(Ordering::SeqCst))
    }
}

struct World {
    server: NatsServer,
    connection: Connection,
    jetstream: jetstream::Context,
}

impl World {
    async fn new() -> Self {
        let server = server();
        let connection = connect(&server).await;
        let jetstream = connection.jetstream();
        Sessions::provision(&jetstream, 1).await.expect("a bucket");
        Self { server, connection, jetstream }
    }

    async fn sessions(&self, config: SessionConfig) -> Sessions {
        Sessions::open(&self.connection, config).await.expect("sessions")
    }

    async fn bucket(&self) -> kv::Store {
        self.jetstream.get_key_value("auth_sess").await.expect("the bucket")
    }

    /// The last message of a session's key: its sequence, its headers' TTL and its bytes.
    async fn stored(&self, id: &str) -> jetstream::message::StreamMessage {
        let stream = self.bucket().await.stream;
        stream.get_last_raw_message_by_subject(&subject(id)).await.expect("a record")
    }
}

/// A session's key is its id, with a dot behind the eight characters that are its user's.
fn subject(id: &str) -> String {
    format!("{SUBJECTS}{}.{}", &id[..8], &id[8..])
}

async fn connect(server: &NatsServer) -> Connection {
    Connection::open(&NatsConfig::new(server.url())).await.expect("a connection")
}

fn is_invalid<T>(result: &Result<T, SessionError>) -> bool {
    matches!(result, Err(SessionError::Invalid))
}

fn is_reused<T>(result: &Result<T, SessionError>) -> bool {
    matches!(result, Err(SessionError::Reused(session)) if session.owner == owner())
}

#[tokio::test]
async fn a_session_is_refreshed_again_and_again_and_ends_at_log_out() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let mut issued = sessions.create(owner()).await.expect("a session");
    let id = issued.session.id.clone();
    for _ in 0..5 {
        let next = sessions.refresh(&issued.refresh_token).await.expect("a successor");
        assert_eq!(next.session, issued.session);
        assert_eq!(next.session.owner, owner());
        assert_ne!(next.refresh_token, issued.refresh_token);
        issued = next;
    }
    assert_eq!(sessions.log_out(&issued.refresh_token).await.expect("a log-out").id, id);
    assert!(is_invalid(&sessions.refresh(&issued.refresh_token).await));
    assert!(is_invalid(&sessions.log_out(&issued.refresh_token).await));
}

#[tokio::test]
async fn refresh_11_an_old_token_logs_out_and_a_forged_one_does_not() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let third = sessions.refresh(&second.refresh_token).await.expect("a successor");

    assert!(is_invalid(&sessions.log_out(&forged(&third.refresh_token)).await));
    assert!(sessions.refresh(&third.refresh_token).await.is_ok());
    assert!(sessions.log_out(&first.refresh_token).await.is_ok());
    assert!(is_invalid(&sessions.refresh(&third.refresh_token).await));
}

/// The same session and generation, another secret.
fn forged(token: &str) -> String {
    let middle = 40;
    let other = if &token[middle..=middle] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..middle], &token[middle + 1..])
}

/// The same session and secret, the generation in the fifth group of four characters changed.
fn with_generation(token: &str, generation: u32) -> String {
    // 16 bytes of session id are 21 1/3 characters; the generation is bytes 16..20.
    let mut bytes = decode(&token[5..]);
    bytes[16..20].copy_from_slice(&generation.to_be_bytes());
    format!("nrt1.{}", encode(&bytes))
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn decode(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for c in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == c).expect("base64url") as u32;
        bits = (bits << 6) | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut group = [0; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for index in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * index)) as usize & 63]));
        }
    }
    text
}

#[tokio::test]
async fn refresh_01_reuse_after_the_grace_period_ends_the_session() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");

    hand.forward(Duration::from_millis(9_000));
    let again = sessions.refresh(&first.refresh_token).await.expect("the same successor");
    assert_eq!(again, second);

    hand.forward(Duration::from_millis(2_000));
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));
    assert!(is_invalid(&sessions.refresh(&second.refresh_token).await));
}

#[tokio::test]
async fn refresh_02_a_grandparent_ends_the_session_even_within_the_grace_period() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let third = sessions.refresh(&second.refresh_token).await.expect("a successor");
    assert!(is_reused(&sessions.refresh(&first.refresh_token).await));
    for token in [&second, &third] {
        assert!(is_invalid(&sessions.refresh(&token.refresh_token).await));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_04_of_32_refreshes_at_once_one_rotates_and_all_get_its_successor() {
    let world = World::new().await;
    let mut instances = Vec::new();
    for _ in 0..4 {
        let connection = connect(&world.server).await;
        instances.push(Sessions::open(&connection, config()).await.expect("sessions"));
    }
    let mut issued = instances[0].create(owner()).await.expect("a session");
    for round in 1..=50 {
        let before = world.stored(&issued.session.id).await.sequence;
        let attempts = (0..32).map(|n| instances[n % 4].refresh(&issued.refresh_token));
        let successors: HashSet<_> =
            join_all(attempts).await.into_iter().map(|result| result.expect("a successor").refresh_token).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        assert_eq!(world.stored(&issued.session.id).await.sequence, before + 1, "one rotation in round {round}");
        issued.refresh_token = successors.into_iter().next().expect("one");
    }
}

#[tokio::test]
async fn refresh_05_07_a_forged_token_of_any_generation_changes_nothing() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    let current = sessions.refresh(&second.refresh_token).await.expect("a successor");
    let before = world.stored(&current.session.id).await;

    assert_eq!(with_generation(&current.refresh_token, 2), current.refresh_token);
    let mut attempts =
        vec![forged(&first.refresh_token), forged(&second.refresh_token), forged(&current.refresh_token)];
    attempts.extend([0, 1, 3, 1_000, u32::MAX].map(|generation| with_generation(&current.refresh_token, generation)));
    for attempt in &attempts {
        assert!(is_invalid(&sessions.refresh(attempt).await), "{attempt}");
    }
    let after = world.stored(&current.session.id).await;
    assert_eq!((before.sequence, before.payload), (after.sequence, after.payload));
    assert!(sessions.refresh(&current.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_session_that_does_not_exist_is_like_a_forged_one() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let gone = format!("nrt1.{}", "A".repeat(70));
    assert!(is_invalid(&sessions.refresh(&gone).await));
    assert!(is_invalid(&sessions.log_out(&gone).await));
    for token in ["", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA", "nrt1.*", "nrt1.>"] {
        assert!(is_invalid(&sessions.refresh(token).await), "{token}");
    }
}

#[tokio::test]
async fn refresh_08_sessions_end_when_idle_and_at_their_absolute_end() {
    let world = World::new().await;
    let hand = Hand::default();
    let (idle, absolute) = (Duration::from_secs(100), Duration::from_secs(250));
    let sessions = world.sessions(config().idle(idle).absolute(absolute).clock(hand.clock())).await;

    let left_alone = sessions.create(owner()).await.expect("a session");
    let mut used = sessions.create(owner()).await.expect("a session");
    for _ in 0..2 {
        hand.forward(Duration::from_secs(99));
        used = sessions.refresh(&used.refresh_token).await.expect("a successor");
    }
    assert!(is_invalid(&sessions.refresh(&left_alone.refresh_token).await));
    // 198 s have passed; the idle expiry would be at 298 s, the absolute one is at 250 s.
    hand.forward(Duration::from_secs(51));
    used = sessions.refresh(&used.refresh_token).await.expect("a successor");
    hand.forward(Duration::from_secs(1));
    assert!(is_invalid(&sessions.refresh(&used.refresh_token).await));
}

#[tokio::test]
async fn refresh_08_the_time_to_live_survives_rotation_and_empties_the_bucket() {
    let world = World::new().await;
    let sessions = world.sessions(config().idle(Duration::from_secs(2))).await;
    let bucket = world.bucket().await;
    let mut watch = bucket.watch(">").await.expect("a watch");

    let first = sessions.create(owner()).await.expect("a session");
    assert_eq!(ttl(&world.stored(&first.session.id).await), Some("3".to_owned()));
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    assert_eq!(ttl(&world.stored(&second.session.id).await), Some("3".to_owned()));

    // The server says itself when the record is gone.
    let gone = async {
        while let Some(entry) = watch.next().await {
            if entry.expect("an entry").operation == kv::Operation::Purge {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(15), gone).await.expect("the record expires");
    assert!(is_invalid(&sessions.refresh(&second.refresh_token).await));
}

fn ttl(message: &jetstream::message::StreamMessage) -> Option<String> {
    message.headers.get("Nats-TTL").map(|value| value.as_str().to_owned())
}

#[tokio::test]
async fn refresh_10_whoever_reads_the_bucket_holds_no_token() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let issued = sessions.create(owner()).await.expect("a session");
    let record = world.stored(&issued.session.id).await;
    let text = String::from_utf8(record.payload.to_vec()).expect("JSON");
    let secret = encode(&decode(&issued.refresh_token[5..])[20..]);
    assert!(!text.contains(&secret), "{text}");

    // The stored hash presented as a secret.
    let stored: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let hash = decode(stored["hash"].as_str().expect("a hash"));
    let mut token = decode(&issued.refresh_token[5..]);
    token[20..].copy_from_slice(&hash);
    assert!(is_invalid(&sessions.refresh(&format!("nrt1.{}", encode(&token))).await));
    assert!(sessions.refresh(&issued.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_user_sees_their_sessions_and_ends_one_or_all() {
    let world = World::new().await;
    let hand = Hand::default();
    let sessions = world.sessions(config().clock(hand.clock())).await;
    let mut ids = Vec::new();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let issued = sessions.create(owner()).await.expect("a session");
        ids.push(issued.session.id);
        tokens.push(issued.refresh_token);
        hand.forward(Duration::from_secs(1));
    }
    let other = sessions.create(Owner::new("u2", "k2").in_epoch(7)).await.expect("a session");
    tokens[0] = sessions.refresh(&tokens[0]).await.expect("a successor").refresh_token;

    let listed = sessions.list("u1").await.expect("a list");
    assert_eq!(listed.iter().rev().map(|live| live.session.id.as_str()).collect::<Vec<_>>(), ids);
    let oldest = listed.last().expect("three");
    assert_eq!(oldest.refreshed_at.duration_since(oldest.begun_at).expect("later").as_secs(), 3);
    assert_eq!(sessions.list("u2").await.expect("a list")[0].session.owner.epoch, 7);
    assert_eq!(sessions.list("nobody").await.expect("a list"), []);

    for (user, id) in [("u2", ids[1].as_str()), ("u1", "*"), ("u1", ">"), ("u1", ""), ("u1", &other.session.id)] {
        assert!(is_invalid(&sessions.end(user, id).await), "{user} {id}");
    }
    sessions.end("u1", &ids[1]).await.expect("an end");
    assert!(is_invalid(&sessions.end("u1", &ids[1]).await));
    assert!(is_invalid(&sessions.refresh(&tokens[1]).await));
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 2);

    assert_eq!(sessions.end_all("u1", 1).await.expect("an end"), 2);
    for token in [&tokens[0], &tokens[2]] {
        assert!(is_invalid(&sessions.refresh(token).await));
    }
    assert!(sessions.refresh(&other.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_session_that_has_expired_is_neither_listed_nor_ended_though_its_record_is_there() {
    let world = World::new().await;
    let hand = Hand::default();
    let idle = Duration::from_secs(100);
    let sessions = world.sessions(config().idle(idle).clock(hand.clock())).await;
    let id = sessions.create(owner()).await.expect("a session").session.id;
    hand.forward(idle - Duration::from_millis(1));
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 1);
    hand.forward(Duration::from_millis(1));
    assert_eq!(sessions.list("u1").await.expect("a list"), []);
    assert!(is_invalid(&sessions.end("u1", &id).await));
    assert!(!world.stored(&id).await.payload.is_empty());
}

#[tokio::test]
async fn what_ends_a_session_revokes_its_access_tokens() {
    let world = World::new().await;
    Revoker::provision(&world.jetstream, 1).await.expect("a bucket");
    let revoker = Arc::new(Revoker::open(&world.connection).await.expect("a revoker"));
    let config = || config().grace(Duration::ZERO).cap(NonZeroUsize::new(5).expect("not zero"));
    let sessions = world.sessions(config().revoker(revoker)).await;
    let bucket = world.jetstream.get_key_value("auth_rev").await.expect("the bucket");
    let revoked = async |id: &str| bucket.get(format!("sid.{id}")).await.expect("an answer").is_some();

    let logged_out = sessions.create(owner()).await.expect("a session");
    let ended = sessions.create(owner()).await.expect("a session");
    let reused = sessions.create(owner()).await.expect("a session");
    let ended_by_id = sessions.create(owner()).await.expect("a session");
    for issued in [&logged_out, &ended, &reused, &ended_by_id] {
        assert!(!revoked(&issued.session.id).await);
    }
    sessions.log_out(&logged_out.refresh_token).await.expect("a log-out");
    sessions.end("u1", &ended.session.id).await.expect("an end");
    sessions.refresh(&reused.refresh_token).await.expect("a successor");
    assert!(is_reused(&sessions.refresh(&reused.refresh_token).await));
    sessions.end_any(&ended_by_id.session.id).await.expect("an end").expect("a session");
    let gone = "A".repeat(22);
    assert_eq!(sessions.end_any(&gone).await.expect("an end"), None);
    for id in [&logged_out.session.id, &ended.session.id, &reused.session.id, &ended_by_id.session.id, &gone] {
        assert!(revoked(id).await);
    }

    let oldest = sessions.create(owner()).await.expect("a session");
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        sessions.create(owner()).await.expect("a session");
    }
    assert!(revoked(&oldest.session.id).await);
    sessions.end_all("u1", 3).await.expect("an end");
    let mut epochs = bucket.watch_with_history("ep.*").await.expect("a watch");
    let epoch = epochs.next().await.expect("an entry").expect("an entry");
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&epoch.value).expect("JSON")["epoch"], 3);
}

#[tokio::test]
async fn a_look_at_a_refresh_token_uses_nothing_up() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    let first = sessions.create(owner()).await.expect("a session");
    for _ in 0..2 {
        assert_eq!(sessions.look_up(&first.refresh_token).await.expect("a session").session, first.session);
    }
    let second = sessions.refresh(&first.refresh_token).await.expect("a successor");
    sessions.refresh(&second.refresh_token).await.expect("a successor");
    // Reuse, which a refresh would punish.
    assert!(is_invalid(&sessions.look_up(&first.refresh_token).await));
    assert!(is_invalid(&sessions.look_up(&forged(&second.refresh_token)).await));
    assert!(sessions.look_up(&second.refresh_token).await.is_ok());
}

#[tokio::test]
async fn refresh_13_at_the_cap_the_oldest_session_ends() {
    let world = World::new().await;
    let hand = Hand::default();
    let cap = NonZeroUsize::new(5).expect("not zero");
    let sessions = world.sessions(config().cap(cap).clock(hand.clock())).await;
    let mut tokens = Vec::new();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..30 {
        let begun = sessions.create(owner()).await.expect("a session");
        let displaced: Vec<_> = begun.displaced.iter().map(|session| session.id.as_str()).collect();
        let oldest = ids.len().checked_sub(5).map(|oldest| ids[oldest].as_str());
        assert_eq!(displaced, Vec::from_iter(oldest));
        ids.push(begun.session.id);
        tokens.push(begun.refresh_token);
        hand.forward(Duration::from_millis(1));
    }
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 5);
    for (number, token) in tokens.iter().enumerate() {
        assert_eq!(sessions.refresh(token).await.is_ok(), number >= 25, "session {number}");
    }
}

#[tokio::test]
async fn refresh_13_of_sessions_that_begin_at_once_none_ends_its_own() {
    let world = World::new().await;
    let cap = NonZeroUsize::MIN;
    let sessions = world.sessions(config().cap(cap)).await;
    for begun in join_all((0..16).map(|_| sessions.create(owner()))).await {
        begun.expect("a session");
    }
    let last = sessions.create(owner()).await.expect("a session");
    assert_eq!(sessions.list("u1").await.expect("a list").len(), 1);
    assert!(sessions.refresh(&last.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_session_keeps_its_pepper_while_that_is_known() {
    let world = World::new().await;
    let old = world.sessions(config()).await;
    let issued = old.create(owner()).await.expect("a session");

    let stranger = world.sessions(SessionConfig::new(&pepper(2))).await;
    assert!(is_invalid(&stranger.refresh(&issued.refresh_token).await));
    let new = world.sessions(SessionConfig::new(&pepper(2)).previous_pepper(&pepper(1))).await;
    let successor = new.refresh(&issued.refresh_token).await.expect("a successor");
    assert!(old.refresh(&successor.refresh_token).await.is_ok());
}

#[tokio::test]
async fn a_rotation_does_not_outlive_a_log_out() {
    let world = World::new().await;
    let sessions = world.sessions(config()).await;
    for _ in 0..20 {
        let issued = sessions.create(owner()).await.expect("a session");
        let (refreshed, logged_out) =
            tokio::join!(sessions.refresh(&issued.refresh_token), sessions.log_out(&issued.refresh_token));
        logged_out.expect("a log-out");
        if let Ok(successor) = refreshed {
            assert!(is_invalid(&sessions.refresh(&successor.refresh_token).await));
        }
    }
}

#[tokio::test]
async fn the_bucket_has_to_be_provisioned_and_can_be_again() {
    let server = server();
    let connection = connect(&server).await;
    let jetstream = connection.jetstream();
    let missing = Sessions::open(&connection, config()).await;
    assert!(matches!(missing, Err(SessionBucketError::Bucket(KvError::Missing { .. }))), "{missing:?}");

    let plain = kv::Config { bucket: "auth_sess".to_owned(), ..kv::Config::default() };
    jetstream.create_key_value(plain).await.expect("a bucket");
    let no_ttl = Sessions::open(&connection, config()).await;
    assert!(matches!(no_ttl, Err(SessionBucketError::NoTtl)), "{no_ttl:?}");

    for _ in 0..2 {
        Sessions::provision(&jetstream, 1).await.expect("a bucket");
        Sessions::open(&connection, config()).await.expect("sessions");
    }
}

#[tokio::test]
async fn without_a_server_sessions_are_unavailable_and_nothing_is_said_to_be_invalid() {
    let mut world = World::new().await;
    let sessions = world.sessions(config()).await;
    let issued = sessions.create(owner()).await.expect("a session");
    world.server.kill();
    let refused = sessions.refresh(&issued.refresh_token).await;
    assert!(matches!(refused, Err(SessionError::Unavailable(_))), "{refused:?}");
}
