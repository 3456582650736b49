//! The buckets of an auth service on a real JetStream: their form, and what is said when they do not answer.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::{self, stream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Code, Connection};
use nats_rpc_auth::{
    LoginThrottle, PasswordFingerprint, RESET_LIFETIME, Reset, ResetTokens, ServiceCredentialError, ServiceCredentials,
    Sessions,
};
use nats_rpc_jwt::{JwksBucket, KeyPurpose, KeyRing, KeysError, Revocations, Revoker, SigningKeyConfig, SigningKeys};
use nats_rpc_tests::server;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::{foreign, nats, soon, thumbprint};

const MINUTE: Duration = Duration::from_secs(60);

/// Every bucket, the most bytes of a value, and how long the trace of what expired stays.
const BUCKETS: [(&str, i32, Option<Duration>); 7] = [
    ("auth_jwks", 262_144, None),
    ("gw_jwks", 262_144, None),
    ("auth_rev", 512, Some(MINUTE)),
    ("auth_sess", 4_096, Some(MINUTE)),
    ("auth_services", 1_024, None),
    ("auth_backoff", 1_024, Some(MINUTE)),
    ("auth_reset", 1_024, Some(MINUTE)),
];

/// Provisions every bucket, in the order of [`BUCKETS`]; gives which succeeded.
async fn provision(jetstream: &jetstream::Context, replicas: usize) -> [bool; 7] {
    [
        JwksBucket::provision(jetstream, KeyPurpose::AccessTokens, replicas).await.is_ok(),
        JwksBucket::provision(jetstream, KeyPurpose::Assertions, replicas).await.is_ok(),
        Revoker::provision(jetstream, replicas).await.is_ok(),
        Sessions::provision(jetstream, replicas).await.is_ok(),
        ServiceCredentials::provision(jetstream, replicas).await.is_ok(),
        LoginThrottle::provision(jetstream, replicas).await.is_ok(),
        ResetTokens::provision(jetstream, replicas).await.is_ok(),
    ]
}

async fn provisioned() -> (NatsServer, Connection) {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    assert_eq!(provision(&connection.jetstream(), 1).await, [true; 7]);
    (server, connection)
}

#[tokio::test]
async fn a_bucket_keeps_one_small_value_a_key_on_file_in_as_many_copies_as_asked() {
    let server = server();
    let jetstream = jetstream::new(foreign(&server).await);
    assert_eq!(soon(provision(&jetstream, 3)).await, [false; 7], "one server holds one copy");
    // A second deployment finds them there.
    for _ in 0..2 {
        assert_eq!(soon(provision(&jetstream, 1)).await, [true; 7]);
    }
    for (bucket, most_bytes, marker) in BUCKETS {
        let stream = soon(jetstream.get_stream(format!("KV_{bucket}"))).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.max_message_size, most_bytes, "{bucket}");
        assert_eq!((config.max_messages_per_subject, config.storage), (1, stream::StorageType::File), "{bucket}");
        assert_eq!(config.subject_delete_marker_ttl, marker, "{bucket}");
        assert!(config.description.as_ref().is_some_and(|text| !text.is_empty()), "{bucket} says what it is for");
    }
}

#[tokio::test]
async fn without_its_stream_nothing_is_said_to_be_absent_or_there_already() {
    let (_server, connection) = provisioned().await;
    let resets = ResetTokens::open(&connection).await.unwrap();
    let services = ServiceCredentials::open(&connection).await.unwrap();
    let ring = JwksBucket::open(&connection, KeyPurpose::AccessTokens).await.unwrap();
    let token = resets.issue(Reset::new("a", "u1", PasswordFingerprint::of("hash"))).await.unwrap();
    let credential = services.add("billing", "introspect").await.unwrap();
    for bucket in ["auth_reset", "auth_services", "auth_jwks"] {
        connection.jetstream().delete_key_value(bucket).await.unwrap();
    }
    let (issued, found, verified, listed) = soon(async {
        let issue = resets.issue(Reset::new("a", "u1", PasswordFingerprint::of("hash")));
        tokio::join!(issue, resets.find(&token), services.verify(&credential), ring.list())
    })
    .await;
    assert_eq!(issued.unwrap_err().code(), Code::Unavailable);
    assert!(found.is_err());
    assert!(matches!(verified, Err(ServiceCredentialError::Unavailable(_))), "{verified:?}");
    assert!(matches!(listed, Err(KeysError::Unavailable { .. })), "{listed:?}");
}

#[tokio::test]
async fn a_reset_token_is_good_for_15_minutes_or_until_it_is_discarded() {
    let (_server, connection) = provisioned().await;
    let at = |after: Duration| move || SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + after;
    let open = async |after| ResetTokens::open(&connection).await.unwrap().clock(at(after));
    let reset = Reset::new("account", "u1", PasswordFingerprint::of("hash"));
    let token = open(Duration::ZERO).await.issue(reset.clone()).await.unwrap();
    let last = open(RESET_LIFETIME - Duration::from_millis(1)).await;
    assert_eq!(last.find(&token).await.unwrap(), Some(reset.clone()));
    assert_eq!(open(RESET_LIFETIME).await.find(&token).await.unwrap(), None);
    let other = last.issue(reset.clone()).await.unwrap();
    last.discard(&token).await.unwrap();
    assert_eq!(last.find(&token).await.unwrap(), None);
    assert_eq!(last.find(&other).await.unwrap(), Some(reset));
}

#[tokio::test]
async fn of_credentials_made_at_once_for_one_service_one_is_made() {
    let (_server, connection) = provisioned().await;
    let services = ServiceCredentials::open(&connection).await.unwrap();
    let made = join_all((0..16).map(|_| services.add("billing", "introspect"))).await;
    let good: Vec<_> = made.iter().flatten().collect();
    assert_eq!(good.len(), 1);
    assert!(services.verify(good[0]).await.unwrap().is_some());
    let mut refused = made.iter().filter_map(|made| made.as_ref().err());
    assert!(refused.all(|error| matches!(error, ServiceCredentialError::Exists)), "{made:?}");
    // What the bucket has no room for is another matter.
    let too_long = services.add("other", &"word ".repeat(1_000)).await;
    assert!(matches!(too_long, Err(ServiceCredentialError::Unavailable(_))), "{too_long:?}");
}

/// A ring of keys that nobody has the private halves of, and their ids.
fn document(keys: u8) -> (Value, Vec<String>) {
    let (mut kids, mut entries) = (Vec::new(), Vec::new());
    for n in 0..keys {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode([n; 32]) });
        let kid = thumbprint(&jwk);
        entries.push(json!({ "kid": kid, "alg": "EdDSA", "typ": "at+jwt", "iss": "i", "jwk": jwk }));
        kids.push(kid);
    }
    (json!({ "version": 7, "keys": entries }), kids)
}

#[tokio::test]
async fn keys_retired_at_once_are_all_retired() {
    let (_server, connection) = provisioned().await;
    let (document, kids) = document(8);
    let store = connection.jetstream().get_key_value("auth_jwks").await.unwrap();
    store.put("ring", document.to_string().into()).await.unwrap();
    let ring = JwksBucket::open(&connection, KeyPurpose::AccessTokens).await.unwrap();
    for retired in soon(join_all(kids.iter().map(|kid| ring.retire(kid)))).await {
        retired.unwrap();
    }
    assert!(ring.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_ring_that_the_bucket_does_not_take_is_unavailable_and_not_contended() {
    let (_server, connection) = provisioned().await;
    let jetstream = connection.jetstream();
    let store = jetstream.get_key_value("auth_jwks").await.unwrap();
    let (document, kids) = document(2);
    store.put("ring", document.to_string().into()).await.unwrap();
    let config = stream::Config { max_message_size: 10, ..store.stream.cached_info().config.clone() };
    jetstream.update_stream(config).await.unwrap();
    let ring = JwksBucket::open(&connection, KeyPurpose::AccessTokens).await.unwrap();
    let retired = soon(ring.retire(&kids[0])).await;
    assert!(matches!(retired, Err(KeysError::Unavailable { .. })), "{retired:?}");
}

#[tokio::test]
async fn what_follows_a_bucket_ends_with_its_last_clone() {
    let (_server, connection) = provisioned().await;
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let idle = tasks();
    let ring = soon(KeyRing::watch(&connection, KeyPurpose::AccessTokens)).await.unwrap();
    let revocations = soon(Revocations::watch(&connection)).await.unwrap();
    let mut keys = Vec::new();
    for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
        keys.push(soon(SigningKeys::open(&connection, SigningKeyConfig::new(purpose))).await.unwrap());
    }
    let clones = (ring.clone(), revocations.clone(), keys.clone());
    drop((ring, revocations, keys));
    assert!(tasks() > idle);
    drop(clones);
    soon(async {
        while tasks() > idle {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
