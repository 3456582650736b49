//! The key ring under load, in rogue hands, and put back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream::kv;
use futures::StreamExt;
use futures::future::join_all;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::{JwksBucket, JwtRejection, KeyPurpose, KeyRing, SigningKeyConfig, SigningKeys};
use nats_rpc_jwt::{JwtConfig, JwtGuard, UserClaims};
use nats_rpc_tests::proxy::{Proxy, Which};
use nats_rpc_tests::secured::Secured;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::capture;
use super::forge::{Key, NOW, b64, claims, claims_with, document};
use super::guarded::{Guarded, Hand};
use super::harness::{self, Outcome, cases};
use super::services::Wiretap;
use crate::permissions::intruder::Intruder;
use crate::support::{nats, soon};

const ROTATIONS: usize = 20;
/// What is logged of a document that is not taken.
const ALARM: &str = "ALARM: a key document was refused";

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "keys-01" => rotations_under_load,
        "keys-02" => a_token_ahead_of_the_ring,
        "keys-04" => a_rogue_writer,
        "keys-05" => an_old_document_put_back,
        "own-keys-gateway" => an_access_key_in_the_ring_of_gateways,
        "own-keys-poisoned" => documents_that_must_not_be_taken,
        "jwt-header-08" => a_flood_of_unknown_keys,
    ];
    harness::run(server_only, cases).await
}

async fn server_only() -> NatsServer {
    server()
}

/// A ring in KV with one instance that signs, and a service that follows it on a connection of its own.
struct Ring {
    bucket: JwksBucket,
    keys: SigningKeys,
    issuer: TokenIssuer,
    guarded: Guarded,
}

impl Ring {
    async fn start() -> (Self, NatsServer) {
        let server = server();
        let connection = Connection::open(&nats(&server)).await.unwrap();
        JwksBucket::provision(&connection.jetstream(), KeyPurpose::AccessTokens, 1).await.unwrap();
        let config = SigningKeyConfig::new(KeyPurpose::AccessTokens).activation_delay(Duration::from_millis(20));
        let keys = soon(SigningKeys::open(&connection, config)).await.unwrap();
        let verifier = Connection::open(&nats(&server)).await.unwrap();
        let followed = soon(KeyRing::watch(&verifier, KeyPurpose::AccessTokens)).await.unwrap();
        let ring = Self {
            bucket: JwksBucket::open(&connection, KeyPurpose::AccessTokens).await.unwrap(),
            issuer: TokenIssuer::ring(&keys),
            keys,
            guarded: Guarded::start(&server, "ring", JwtConfig::ring(followed)).await,
        };
        (ring, server)
    }

    fn token(&self) -> String {
        capture::secret(self.issuer.issue(&Grant::new("u1", "s1")).unwrap())
    }
}

/// Twenty key pairs take each other's place, and no token that was ever issued is refused meanwhile.
async fn rotations_under_load(_: &NatsServer) {
    let (ring, _server) = Ring::start().await;
    let over = AtomicBool::new(false);
    let calling = (0..8).map(|_| async {
        let mut taken = 0;
        while !over.load(Ordering::SeqCst) {
            // One that was just signed, so that every key is used from its first moment on.
            assert_eq!(ring.guarded.code_for(&ring.token()).await, 0, "a valid token is refused");
            taken += 1;
        }
        taken
    });
    let first = (ring.keys.kid().unwrap(), ring.token());
    let rotating = async {
        for _ in 0..ROTATIONS {
            soon(ring.keys.rotate()).await.unwrap();
        }
        over.store(true, Ordering::SeqCst);
    };
    let (taken, ()) = tokio::join!(join_all(calling), rotating);
    assert!(taken.iter().sum::<usize>() > ROTATIONS * 8, "{taken:?}");
    // What the first key signed is still good, until somebody retires it.
    let (first, of_first) = first;
    ring.guarded.takes(&of_first).await;
    assert_eq!(soon(ring.bucket.list()).await.unwrap().len(), ROTATIONS + 1);
    soon(ring.bucket.retire(&first)).await.unwrap();
    until(async || ring.guarded.code_for(&of_first).await == 401).await;
    ring.guarded.refuses(&of_first).await;
    ring.guarded.takes(ring.token()).await;
}

/// One that names a key which is on its way is waited for, once and not for long.
async fn a_token_ahead_of_the_ring(server: &NatsServer) {
    let connection = Connection::open(&nats(server)).await.unwrap();
    JwksBucket::provision(&connection.jetstream(), KeyPurpose::AccessTokens, 1).await.unwrap();
    let bucket = connection.jetstream().get_key_value(KeyPurpose::AccessTokens.bucket()).await.unwrap();
    let known = Key::own();
    let mut taken = false;
    // On a machine that is busy, the quarter of a second may be over before anything has come.
    for attempt in 1..=10 {
        let proxy = Proxy::to(server.port()).start().await.unwrap();
        put(&bucket, attempt * 2, &[&known]).await;
        let followed = Connection::open(&NatsConfig::new(proxy.url())).await.unwrap();
        let followed = soon(KeyRing::watch(&followed, KeyPurpose::AccessTokens)).await.unwrap();
        let config = JwtConfig::ring(followed).clock(Hand::at(NOW).clock());
        let guarded = Guarded::start(server, "ahead", config).await;
        guarded.takes(known.token(&claims())).await;

        let new = Key::own();
        let token = new.token(&claims());
        proxy.freeze(Which::All);
        put(&bucket, attempt * 2 + 1, &[&known, &new]).await;
        let resume = async {
            // The service has the request before the ring has the document.
            guarded.has_what_was_sent().await;
            proxy.resume(Which::All);
        };
        let (code, ()) = tokio::join!(guarded.code_for(&token), resume);
        if code == 0 {
            taken = true;
            break;
        }
    }
    assert!(taken, "a token is never waited for");
    harness::passed();
    // Nobody is waited for for ever: the same without a document that comes.
    let (ring, _server) = Ring::start().await;
    for kid in ["nobody", "nobody-else"] {
        ring.guarded.refuses(Key::ed25519(kid).token(&claims())).await;
    }
}

async fn put(bucket: &kv::Store, version: u64, keys: &[&Key]) {
    let entries: Vec<Value> = keys.iter().map(|key| key.entry()).collect();
    soon(bucket.put("ring", document(version, &entries).into())).await.unwrap();
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

async fn a_rogue_writer(_: &NatsServer) {
    let secured = Secured::start();
    crate::deployed::provision(&secured).await;
    // `deploy` puts the first document there. Whoever holds its key can be anybody in any case.
    for user in ["users", "gateway", "client", "monitor"] {
        let mut intruder = Intruder::connect(&secured, user).await;
        for key in ["ring", "rotate", "other"] {
            intruder.may_not_publish(&format!("$KV.auth_jwks.{key}")).await;
            harness::refused();
        }
    }
    let auth = Intruder::connect(&secured, "auth").await;
    let jetstream = async_nats::jetstream::new(auth.nats.clone());
    let stored = soon(jetstream.publish("$KV.auth_jwks.ring", document(1, &[]).into())).await.unwrap();
    soon(stored.into_future()).await.unwrap();
    harness::passed();
}

/// A gateway may write the ring of its own keys, and makes nobody of it but whom it may vouch for.
async fn an_access_key_in_the_ring_of_gateways(_: &NatsServer) {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
        JwksBucket::provision(&connection.jetstream(), purpose, 1).await.unwrap();
    }
    // An honest key: without one, nothing could be told of any access token.
    let bucket = connection.jetstream().get_key_value(KeyPurpose::AccessTokens.bucket()).await.unwrap();
    put(&bucket, 2, &[&Key::own()]).await;
    let access = soon(KeyRing::watch(&connection, KeyPurpose::AccessTokens)).await.unwrap();
    let assertions = soon(KeyRing::watch(&connection, KeyPurpose::Assertions)).await.unwrap();
    let config = JwtConfig::ring(access).forwarded_assertion_ring(assertions.clone());
    let guarded = Guarded::start(&server, "asserted", config).await;

    let gateway = SigningKeyConfig::new(KeyPurpose::Assertions);
    let gateway = soon(SigningKeys::open(&connection, gateway)).await.unwrap();
    let signer = gateway.assertion_signer();
    let assertion = signer.sign(&UserClaims::new("u1"), &guarded.subject("whoami"), b"{}").unwrap();
    guarded.takes_message(&[("nrpc-assert", &assertion)], "{}").await;

    // The same bucket, another key: one that says it is for access tokens.
    let rogue = Key::own();
    let bucket = connection.jetstream().get_key_value(KeyPurpose::Assertions.bucket()).await.unwrap();
    let found = soon(bucket.get("ring")).await.unwrap().unwrap();
    let mut found: Value = serde_json::from_slice(&found).unwrap();
    let version = found["version"].as_u64().unwrap() + 1;
    found["version"] = json!(version);
    found["keys"].as_array_mut().unwrap().push(rogue.entry());
    soon(bucket.put("ring", found.to_string().into())).await.unwrap();
    until(async || assertions.version() >= version).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let token = rogue.token(&claims_with(json!({ "iat": now, "exp": now + 600 })));
    guarded.refuses(&token).await;
    guarded.refuses_message(&[("nrpc-assert", &token)], "{}").await;
    // And an assertion is no access token.
    let assertion = signer.sign(&UserClaims::new("u1"), &guarded.subject("whoami"), b"{}").unwrap();
    guarded.refuses(&assertion).await;
    guarded.takes_message(&[("nrpc-assert", &assertion)], "{}").await;
}

async fn an_old_document_put_back(_: &NatsServer) {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    JwksBucket::provision(&connection.jetstream(), KeyPurpose::AccessTokens, 1).await.unwrap();
    let bucket = connection.jetstream().get_key_value(KeyPurpose::AccessTokens.bucket()).await.unwrap();
    let (stays, stolen, newest) = (Key::own(), Key::own(), Key::own());
    put(&bucket, 10, &[&stays, &stolen]).await;
    let followed = soon(KeyRing::watch(&connection, KeyPurpose::AccessTokens)).await.unwrap();
    let config = JwtConfig::ring(followed.clone()).clock(Hand::at(NOW).clock());
    let guarded = Guarded::start(&server, "rollback", config).await;
    let of_stolen = stolen.token(&claims());
    guarded.takes(&of_stolen).await;
    put(&bucket, 11, &[&stays]).await;
    until(async || guarded.code_for(&of_stolen).await == 401).await;

    let mut version = 12;
    for old in [10, 11, 0] {
        put(&bucket, old, &[&stays, &stolen]).await;
        // A newer one, once it is here, says that the old one was here too.
        put(&bucket, version, &[&stays, &newest]).await;
        until(async || followed.version() == version).await;
        guarded.refuses(&of_stolen).await;
        version += 1;
    }
    // And with nothing after it: what is in use stays.
    put(&bucket, 10, &[&stays, &stolen]).await;
    let tap = Wiretap::on(&server, "$KV.>").await;
    drop(tap.heard().await);
    guarded.refuses(&of_stolen).await;
    guarded.takes(stays.token(&claims())).await;
    guarded.takes(newest.token(&claims())).await;
    assert_eq!(followed.version(), version - 1);
    // A verifier that starts now has nothing to compare with but what is there; an auth instance, which has,
    // puts it right.
}

/// What `jwt-signature-11` lists, by way of the bucket: the update is refused, and what was in use stays.
async fn documents_that_must_not_be_taken(_: &NatsServer) {
    let server = server();
    let connection = Connection::open(&nats(&server)).await.unwrap();
    JwksBucket::provision(&connection.jetstream(), KeyPurpose::AccessTokens, 1).await.unwrap();
    let bucket = connection.jetstream().get_key_value(KeyPurpose::AccessTokens.bucket()).await.unwrap();
    let (known, next) = (Key::own(), Key::own());
    put(&bucket, 10, &[&known]).await;
    let followed = soon(KeyRing::watch(&connection, KeyPurpose::AccessTokens)).await.unwrap();
    let config = JwtConfig::ring(followed.clone()).clock(Hand::at(NOW).clock());
    let guarded = Guarded::start(&server, "poisoned", config).await;
    let (of_known, of_next) = (known.token(&claims()), next.token(&claims()));
    let mut private = next.entry();
    private["jwk"]["d"] = json!("AAAA");
    let mut symmetric = next.entry();
    (symmetric["alg"], symmetric["jwk"]) = (json!("HS256"), json!({ "kty": "oct", "k": "AAAA" }));
    let mut foreign = known.entry();
    foreign["jwk"] = next.jwk.clone();
    // A good key by another name than its own: whoever chose it may choose that of another key tomorrow.
    let mut renamed = next.entry();
    renamed["kid"] = json!("next");
    let of_renamed = next.sign(&next.header_with(json!({ "kid": "next" })), &claims().to_string());
    // Other cases run at the same time, none of which puts a bad document into this ring of access tokens.
    let alarms = || capture::times(ALARM);
    let mut version = 11;
    for entries in [
        vec![known.entry(), private],
        vec![known.entry(), symmetric],
        vec![known.entry(), next.entry(), next.entry()],
        vec![known.entry(), foreign],
        vec![known.entry(), renamed],
    ] {
        let before = alarms();
        soon(bucket.put("ring", document(version, &entries).into())).await.unwrap();
        // It has come, and nothing else has since: what is refused below is refused on account of it.
        until(async || alarms() > before).await;
        assert_eq!(followed.version(), 10, "{entries:?}");
        for token in [&of_next, &of_renamed] {
            guarded.refuses(token).await;
        }
        guarded.takes(&of_known).await;
        version += 1;
    }
    for garbage in ["", "null", "{}", "[]", "\u{0}", r#"{"version":99,"keys":[],"more":1}"#] {
        let before = alarms();
        soon(bucket.put("ring", garbage.into())).await.unwrap();
        until(async || alarms() > before).await;
        assert_eq!(followed.version(), 10, "{garbage:?}");
    }
    guarded.takes(&of_known).await;
    put(&bucket, version, &[&known, &next]).await;
    until(async || followed.version() == version).await;
    guarded.takes(&of_next).await;
}

/// One look-up in ten seconds is all that leaves, however many tokens name keys that nobody has.
async fn a_flood_of_unknown_keys(_: &NatsServer) {
    const TOKENS: usize = 2_000;
    let payload = b64(claims().to_string());
    let token = |n: usize| {
        let header = b64(json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": format!("{n:08x}") }).to_string());
        format!("{header}.{payload}.{}", b64([n as u8; 64]))
    };
    let (ring, server) = Ring::start().await;
    ring.guarded.takes(ring.token()).await;
    let tap = Wiretap::on(&server, ">").await;
    let began = Instant::now();
    let tokens: Vec<_> = (0..TOKENS).map(token).collect();
    let refusals = futures::stream::iter(&tokens).map(|token| ring.guarded.code_for(token));
    let codes: Vec<u16> = refusals.buffer_unordered(64).collect().await;
    assert!(codes.iter().all(|code| *code == 401), "{codes:?}");
    harness::refused();

    // Each look-up reads when the bucket was created, the ring, and whether keys are to be rotated.
    let allowed = 3 * (1 + began.elapsed().as_secs() / 10);
    let (mut questions, mut lookups) = (0, 0);
    for subject in tap.heard().await {
        match subject.as_str() {
            known if known == ring.guarded.subject("whoami") => questions += 1,
            inbox if inbox.starts_with("_INBOX") => {}
            read if read.starts_with("$JS.API.") && read.contains("KV_auth_jwks") => lookups += 1,
            // What nats-server says of look-ups; and whoever signs goes on publishing its key.
            advisory if advisory.starts_with("$JS.EVENT.ADVISORY.") => {}
            "$KV.auth_jwks.ring" => {}
            other => panic!("a message to {other}"),
        }
    }
    assert_eq!(questions, TOKENS);
    assert!(lookups <= allowed, "{lookups} look-ups, {allowed} allowed");
    ring.guarded.takes(ring.token()).await;

    // The rest of the hundred thousand in process, where no socket is in the way.
    let ring = KeyRing::from_json(&document(1, &[Key::ed25519("ed").entry()])).unwrap();
    let guard: JwtGuard = JwtGuard::new(JwtConfig::ring(ring)).unwrap();
    for n in TOKENS..100_000 {
        assert_eq!(guard.verify(&token(n)).unwrap_err(), JwtRejection::UnknownKeyId);
    }
}
