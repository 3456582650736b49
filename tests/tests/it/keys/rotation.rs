//! New keys, old keys, and keys of instances that are gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use nats_rpc::prelude::*;
use nats_rpc::{Client, Service, ServiceHandle};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{KeyEvent, KeysError};
use tokio::sync::mpsc;

use super::*;

#[tokio::test]
async fn two_instances_have_keys_of_their_own_and_every_verifier_takes_both() {
    let server = provisioned().await;
    let (a, b, c) = (connect(&server).await, connect(&server).await, connect(&server).await);
    let guard = guard(&c).await;
    let (first, second) = (keys(&a, config()).await, keys(&b, config()).await);
    let (one, other) = (issue(&first), issue(&second));
    assert_ne!(kid(&one), kid(&other));
    for token in [&one, &other] {
        assert_eq!(soon(guard.verify_async(token)).await.unwrap().sub, "u1");
    }
    let document = document(&store(&server).await).await;
    for key in document["keys"].as_array().unwrap() {
        assert_eq!(
            (&key["alg"], &key["typ"], &key["iss"]),
            (&json!("EdDSA"), &json!("at+jwt"), &json!("nats-rpc-auth"))
        );
        let jwk: Vec<_> = key["jwk"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(jwk, ["crv", "kty", "x"], "public members and no others");
    }
    assert_eq!(document["keys"].as_array().unwrap().len(), 2);
}

#[message_pattern("keys.whoami")]
#[use_guards(JwtGuard)]
async fn whoami(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

async fn verifying(server: &NatsServer) -> ServiceHandle {
    let guard = |config| JwtGuard::from_vars(config, |_| None);
    Service::new("verifying", "1.0.0").handlers(handlers![whoami]).guard(guard).start(nats(server)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_valid_token_is_refused_while_keys_rotate_under_a_thousand_requests_a_second() {
    const ROTATIONS: u64 = 4;
    const REQUESTS: u64 = 2_500;
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    // What is late on a machine that does much else is waited for, as it would be by 10 s otherwise.
    let margin = Duration::from_millis(200);
    let issuers =
        [keys(&a, config().activation_delay(margin)).await, keys(&b, config().activation_delay(margin)).await];
    let services = [verifying(&server).await, verifying(&server).await, verifying(&server).await];
    let client = Client::connect(&nats(&server)).await.unwrap().timeout(PATIENCE);

    let rotated = Arc::new(AtomicBool::new(false));
    let rotating = tokio::spawn({
        let (issuers, rotated) = (issuers.clone(), rotated.clone());
        async move {
            for _ in 0..ROTATIONS {
                for issuer in &issuers {
                    issuer.rotate().await.unwrap();
                }
            }
            rotated.store(true, Ordering::SeqCst);
        }
    });
    let taken = Arc::new(AtomicU64::new(0));
    let (mut kids, mut first_of_each_key) = (std::collections::HashSet::new(), Vec::new());
    let mut pace = tokio::time::interval(Duration::from_millis(1));
    let mut calls = tokio::task::JoinSet::new();
    let mut sent = 0;
    while sent < REQUESTS || !rotated.load(Ordering::SeqCst) {
        pace.tick().await;
        // New tokens, which nobody knows already, and in between the first ones of each key so far.
        let fresh = issue(&issuers[usize::try_from(sent % 2).unwrap()]);
        if kids.insert(kid(&fresh)) {
            first_of_each_key.push(fresh.clone());
        }
        let token = match sent % 4 {
            3 => first_of_each_key[usize::try_from(sent / 4).unwrap() % first_of_each_key.len()].clone(),
            _ => fresh,
        };
        let (client, taken) = (client.bearer(&token), taken.clone());
        calls.spawn(async move {
            let answer = client.send::<String>("keys.whoami", &()).await;
            assert_eq!(answer.unwrap(), "u1");
            taken.fetch_add(1, Ordering::SeqCst);
        });
        sent += 1;
    }
    while let Some(called) = soon(calls.join_next()).await {
        called.unwrap();
    }
    soon(rotating).await.unwrap();
    assert_eq!(taken.load(Ordering::SeqCst), sent);
    assert!(kids.len() as u64 > ROTATIONS, "tokens of many keys were sent");
    for service in services {
        service.stop().await;
    }
}

#[tokio::test]
async fn after_a_rotation_the_old_keys_tokens_are_good_and_new_tokens_have_another_key() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let (heard, mut events) = mpsc::unbounded_channel();
    let keys = keys(&connection, config().on_event(move |event| drop(heard.send(event)))).await;
    let guard = guard(&connection).await;
    let old = issue(&keys);
    let new_kid = soon(keys.rotate()).await.unwrap();
    let new = issue(&keys);
    assert_eq!(kid(&new), new_kid);
    assert_ne!(kid(&old), new_kid);
    assert!(guard.verify(&old).is_ok());
    assert!(soon(guard.verify_async(&new)).await.is_ok());
    // A write later, too.
    soon(keys.rotate()).await.unwrap();
    until_taken(&guard, &issue(&keys)).await;
    for token in [&old, &new] {
        assert!(guard.verify(token).is_ok());
    }
    // Each is published before it signs.
    for kid in [kid(&old), new_kid] {
        assert_eq!(soon(events.recv()).await, Some(KeyEvent::Published { kid: kid.clone() }));
        assert_eq!(soon(events.recv()).await, Some(KeyEvent::Signing { kid }));
    }
}

#[tokio::test]
async fn keys_rotate_on_a_schedule_and_what_ended_is_pruned() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    // For the documents' clock, a day passes with each millisecond.
    let start = SystemTime::now();
    let hurried = move || start + start.elapsed().unwrap() * 10_000;
    let config = config().rotate_every(Duration::from_millis(20)).heartbeat(Duration::from_millis(20)).clock(hurried);
    let keys = keys(&connection, config).await;
    let bucket = bucket(&connection).await;
    let mut seen = std::collections::HashSet::new();
    soon(async {
        while seen.len() < 8 {
            seen.extend(keys.kid());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let left = bucket.list().await.unwrap();
    assert!(left.len() < seen.len(), "{} keys of {} are left", left.len(), seen.len());
}

#[tokio::test]
async fn the_key_of_a_vanished_instance_ends_for_verifiers_and_is_pruned_by_others() {
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let vanishing = keys(&a, config()).await;
    let token = issue(&vanishing);
    let gone = kid(&token);
    drop(vanishing);
    // 15 min of tokens and three heartbeats later, with more skew than a guard allows.
    let later = || SystemTime::now() + Duration::from_secs(15 * 60 + 3 * 60 + 120);
    let ring = ring(&b).await;
    assert!(JwtGuard::<UserClaims>::new(JwtConfig::ring(ring.clone())).unwrap().verify(&token).is_ok());
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(ring).clock(later)).unwrap();
    assert_eq!(guard.verify(&token).unwrap_err(), JwtRejection::NoKeys, "it was the only one");

    let staying = keys(&b, config().clock(later)).await;
    let left: Vec<_> = bucket(&b).await.list().await.unwrap().into_iter().map(|key| key.kid).collect();
    assert_eq!(left, [staying.kid().unwrap()]);
    assert!(!left.contains(&gone));
}

#[tokio::test]
async fn a_heartbeat_prolongs_what_is_published() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let start = SystemTime::now();
    let hurried = move || start + start.elapsed().unwrap() * 1_000;
    let keys = keys(&connection, config().heartbeat(Duration::from_millis(20)).clock(hurried)).await;
    let bucket = bucket(&connection).await;
    let until = || async { bucket.list().await.unwrap()[0].not_after };
    let first = until().await;
    soon(async { while until().await <= first {} }).await;
    assert_eq!(bucket.list().await.unwrap()[0].kid, keys.kid().unwrap());
}

#[tokio::test]
async fn a_retired_key_is_refused_by_running_services_and_replaced_at_once() {
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let keys = keys(&a, config()).await;
    let service = verifying(&server).await;
    let client = Client::connect(&nats(&server)).await.unwrap().timeout(PATIENCE);
    let (stolen, guard) = (issue(&keys), guard(&b).await);
    assert_eq!(client.bearer(&stolen).send::<String>("keys.whoami", &()).await.unwrap(), "u1");

    bucket(&b).await.retire(&kid(&stolen)).await.unwrap();
    until_refused(&guard, &stolen, JwtRejection::UnknownKeyId).await;
    // It was in the cache of verified tokens, and is not any more. Until the next key is there, it is 503.
    let code =
        async || client.bearer(&stolen).send::<String>("keys.whoami", &()).await.err().and_then(|error| error.code());
    soon(async { while code().await != Some(Code::Unauthenticated) {} }).await;

    soon(async {
        while keys.kid().is_none_or(|now| now == kid(&stolen)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let fresh = issue(&keys);
    until_taken(&guard, &fresh).await;
    let verified = async {
        while client.bearer(&fresh).send::<String>("keys.whoami", &()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(verified).await;
    let listed: Vec<_> = bucket(&b).await.list().await.unwrap().into_iter().map(|key| key.kid).collect();
    assert_eq!(listed, [kid(&fresh)], "a retired key does not come back");
    let refused = bucket(&b).await.retire(&kid(&stolen)).await.unwrap_err();
    assert!(matches!(refused, KeysError::UnknownKey { .. }), "{refused}");
    service.stop().await;
}

#[tokio::test]
async fn a_request_in_the_bucket_rotates_every_instance() {
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let instances = [keys(&a, config()).await, keys(&b, config()).await];
    let before: Vec<_> = instances.iter().map(SigningKeys::kid).collect();
    bucket(&a).await.rotate().await.unwrap();
    for (keys, before) in instances.iter().zip(&before) {
        soon(async {
            while keys.kid() == *before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    // An instance that starts later has a new key anyway.
    let late = keys(&a, config()).await;
    let first = late.kid();
    late.ring().version();
    tokio::time::timeout(Duration::from_millis(100), async {
        while late.kid() == first {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect_err("an old request rotates nothing");
}

#[tokio::test]
async fn of_many_instances_that_publish_at_once_every_key_is_in_the_ring() {
    const INSTANCES: usize = 24;
    let server = provisioned().await;
    let connections = [connect(&server).await, connect(&server).await, connect(&server).await, connect(&server).await];
    let openings = (0..INSTANCES).map(|n| keys(&connections[n % connections.len()], config()));
    let instances = futures::future::join_all(openings).await;
    let mut published: Vec<_> =
        bucket(&connections[0]).await.list().await.unwrap().into_iter().map(|key| key.kid).collect();
    let mut own: Vec<_> = instances.iter().map(|keys| keys.kid().unwrap()).collect();
    published.sort();
    own.sort();
    assert_eq!(published, own);
}

/// Revisions begin at 1 again in another stream of the name.
#[tokio::test]
async fn a_rotation_is_obeyed_after_the_bucket_was_recreated() {
    for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
        let server = provisioned().await;
        let connection = connect(&server).await;
        let config =
            SigningKeyConfig::new(purpose).activation_delay(Duration::ZERO).heartbeat(Duration::from_millis(100));
        let keys = keys(&connection, config).await;
        let bucket = JwksBucket::open(&connection, purpose).await.unwrap();
        let rotates = async || {
            let before = keys.kid();
            bucket.rotate().await.unwrap();
            soon(async {
                while keys.kid() == before {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        };
        // The mark of the first stream is ahead of all that the second will have.
        let jetstream = connection.jetstream();
        let store = jetstream.get_key_value(purpose.bucket()).await.unwrap();
        for _ in 0..500 {
            store.put("other", "".into()).await.unwrap();
        }
        rotates().await;
        jetstream.delete_key_value(purpose.bucket()).await.unwrap();
        JwksBucket::provision(&jetstream, purpose, 1).await.unwrap();
        rotates().await;
        let info = jetstream.get_stream(format!("KV_{}", purpose.bucket())).await.unwrap().cached_info().state.clone();
        assert!(info.last_sequence < 500, "{info:?}");
    }
}
