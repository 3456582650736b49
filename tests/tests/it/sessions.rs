//! Sessions on a real JetStream: rotation, races, reuse, expiry, log-out.

mod ends;
mod expiry;
mod forged;
mod of_a_user;
mod prepared;
mod rotation;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, kv};
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, KvError, NatsConfig};
use nats_rpc_auth::{Owner, SessionBucketError, SessionConfig, SessionError, Sessions};
use nats_rpc_jwt::SecretKey;
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

    /// Four of them, each on a connection of its own.
    async fn instances(&self) -> Vec<Sessions> {
        let mut instances = Vec::new();
        for _ in 0..4 {
            let connection = connect(&self.server).await;
            instances.push(Sessions::open(&connection, config()).await.expect("sessions"));
        }
        instances
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
