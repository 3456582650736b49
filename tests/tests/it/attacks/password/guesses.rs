//! Guesses: many at once, many for one account, one for many accounts, from sources that nobody proves.

use std::panic::Location;
use std::time::{Duration, Instant, SystemTime};

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use nats_rpc::{Code, Connection};
use nats_rpc_auth::{Email, LoginThrottle, ThrottlePolicy};
use nats_rpc_jwt::SecretKey;
use nats_rpc_jwt::{CLIENT_IP_HEADER, ClientIpSigner};
use serde_json::{Value, json};

use super::super::capture;
use super::super::harness;
use super::super::services::{PASSWORD, REFRESH_SECRET, credentials};
use super::{ASSERTION_SECRET, WRONG, World, address, refusal};
use crate::support::{nats, soon};

/// A password that no account can have: it is wrong without being hashed, and counts like any other.
const NEVER: &str = "wrong\0";

impl World {
    fn signer(&self) -> ClientIpSigner {
        ClientIpSigner::hs256(&SecretKey::new("JWT_ASSERTION_SECRET", capture::secret(ASSERTION_SECRET)).unwrap())
    }

    /// The code that a log-in ends with whose caller is, as `signer` vouches for, at `address`; 0 if it is let in.
    async fn log_in_from(&self, signer: &ClientIpSigner, address: &str, email: &str, password: &str) -> u16 {
        let body = credentials(email, password);
        let proof = signer.sign(address.parse().unwrap(), "auth.login", body.to_string().as_bytes()).unwrap();
        let client = self.client.header(CLIENT_IP_HEADER, capture::secret(proof));
        client.send::<Value>("auth.login", &body).await.map_or_else(|error| error.code().unwrap().status(), |_| 0)
    }

    /// Makes a wait last longer than any test, as if the last failure had come some hours from now.
    async fn prolong(&self, kind: &'static str, whose: &str) {
        let pepper = SecretKey::new("JWT_REFRESH_SECRET", REFRESH_SECRET).unwrap();
        let connection = Connection::open(&nats(&self.server)).await.unwrap();
        let later = || SystemTime::now() + Duration::from_secs(36_000);
        let throttle = LoginThrottle::open(&connection, &pepper).await.unwrap().clock(later);
        throttle.count(&throttle.key(kind, whose), &ThrottlePolicy::ACCOUNT).await.unwrap();
    }
}

/// Three hundred at once: those that do not fit the queue are told so at once, and others are served meanwhile.
pub(super) async fn a_flood_of_log_ins(world: &World) {
    let flood: FuturesUnordered<_> = (0..300).map(|_| async { world.log_in(&address(), WRONG).await }).collect();
    let others = async {
        let mut served = 0;
        loop {
            // A request to the same process that hashes nothing.
            let answer = world.client.send::<Value>("auth.refresh", &json!({ "refreshToken": "nrt1." })).await;
            assert_eq!(answer.unwrap_err().code(), Some(Code::Unauthenticated));
            served += 1;
            if served == 100 {
                return Instant::now();
            }
        }
    };
    let flood = async {
        let codes: Vec<_> = flood.map(|answer| answer.unwrap_err().code().unwrap().status()).collect().await;
        (codes, Instant::now())
    };
    let (served, (codes, over)) = tokio::join!(others, flood);
    assert!(served < over, "a hundred other requests took longer than all of the flood");
    let (busy, wrong) =
        (codes.iter().filter(|code| **code == 503).count(), codes.iter().filter(|code| **code == 401).count());
    assert_eq!(busy + wrong, 300, "{codes:?}");
    assert!(busy > 50 && wrong > 0, "{busy} busy, {wrong} wrong");
    harness::refused();
    // It has passed.
    let email = world.account(PASSWORD).await;
    world.lets_in(&email, PASSWORD).await;
}

pub(super) async fn one_account_and_many(world: &World) {
    // Ten for one account, all at once: five are looked at, and one more for each second that has passed.
    let ada = world.account(PASSWORD).await;
    let started = Instant::now();
    let codes = join_all((0..10).map(|_| world.log_in(&ada, NEVER))).await;
    let codes: Vec<_> = codes.into_iter().map(|answer| answer.unwrap_err().code().unwrap().status()).collect();
    let of = |status: u16| codes.iter().filter(|code| **code == status).count();
    assert!(of(401) + of(429) == 10 && of(401) <= 5 + started.elapsed().as_secs() as usize, "{codes:?}");
    harness::refused();
    // The wait ends by itself, and then the right password is enough.
    soon(async {
        while world.log_in(&ada, PASSWORD).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    harness::passed();
    // While it lasts, the right password is not even looked at; it lasts a quarter of an hour at most.
    for _ in 0..5 {
        drop(world.log_in(&ada, NEVER).await);
    }
    world.prolong("password", &Email::parse(&ada).unwrap().key()).await;
    let refused = refusal(world.log_in(&ada, PASSWORD).await, 429, Location::caller());
    assert_eq!(refused.details().unwrap().get(), r#"{"retryAfterMs":900000}"#);
    let eve = world.account(PASSWORD).await;
    world.lets_in(&eve, PASSWORD).await;

    // One for each of a thousand accounts, from one source: twenty are looked at, and a few while waits end.
    let signer = world.signer();
    let started = Instant::now();
    let sprayed = (0..1_000).map(|_| async { world.log_in_from(&signer, "198.51.100.7", &address(), NEVER).await });
    let codes: Vec<u16> = futures::stream::iter(sprayed).buffer_unordered(16).collect().await;
    let of = |status: u16| codes.iter().filter(|code| **code == status).count();
    assert!(of(401) + of(429) == 1_000 && of(401) <= 20 + started.elapsed().as_secs() as usize, "{}", of(401));
    harness::refused();
    world.prolong("source", "198.51.100.7").await;
    assert_eq!(world.log_in_from(&signer, "198.51.100.7", &eve, PASSWORD).await, 429);
    harness::refused();
    // Who comes from elsewhere does not suffer for it.
    assert_eq!(world.log_in_from(&signer, "198.51.100.8", &eve, PASSWORD).await, 0);
    harness::passed();
}

/// A source is what a gateway signed; nothing that a caller writes makes it another, or nobody's.
pub(super) async fn sources_that_nobody_proves(world: &World) {
    let eve = world.account(PASSWORD).await;
    let signer = world.signer();
    for _ in 0..20 {
        assert_eq!(world.log_in_from(&signer, "203.0.113.9", &address(), NEVER).await, 401);
    }
    world.prolong("source", "203.0.113.9").await;
    let body = credentials(&eve, PASSWORD);
    for (name, value) in [("x-forwarded-for", "198.51.100.1"), ("x-real-ip", "198.51.100.1"), ("forwarded", "for=::1")]
    {
        let proof = signer.sign("203.0.113.9".parse().unwrap(), "auth.login", body.to_string().as_bytes()).unwrap();
        let client = world.client.header(CLIENT_IP_HEADER, capture::secret(proof)).header(name, value);
        let refused = client.send::<Value>("auth.login", &body).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::ResourceExhausted), "{name}");
        harness::refused();
    }
    assert_eq!(world.log_in_from(&signer, "203.0.113.10", &eve, PASSWORD).await, 0);
    harness::passed();
}
