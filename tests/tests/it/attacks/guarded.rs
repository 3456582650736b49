//! A guarded handler behind a real nats-server, which counts how often it was called.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig, ServiceHandle};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{FailOpenJwtGuard, KeyRing};
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::server_with;
use serde_json::{Value, json};

use super::forge::{Key, NOW, SECRET, claims, document, signed_with_secret};
use super::{capture, harness};
use crate::support::{PATIENCE, code, nats, request_with, soon};

/// What every refusal reads, to the byte.
const UNIFORM: &[u8] = br#"{"code":"UNAUTHENTICATED","message":"unauthenticated"}"#;
/// What the refusal of an expired token reads.
const EXPIRED: &[u8] = br#"{"code":"UNAUTHENTICATED","message":"token expired","details":{"reason":"token_expired"}}"#;

/// How often handlers were called.
#[derive(Clone, Default)]
struct Calls(Arc<AtomicUsize>);

/// What reached a handler.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Seen {
    pub(super) sub: String,
    pub(super) payload: Option<Value>,
}

#[message_pattern("whoami")]
#[use_guards(JwtGuard)]
async fn whoami(State(calls): State<Calls>, Auth(me): Auth<UserClaims>, payload: Option<Payload<Value>>) -> Seen {
    calls.0.fetch_add(1, Ordering::SeqCst);
    Seen { sub: me.sub.clone(), payload: payload.map(|Payload(payload)| payload) }
}

#[message_pattern("read")]
#[use_guards(JwtGuard, RequireScope::new("users:read"))]
async fn read(State(calls): State<Calls>) {
    calls.0.fetch_add(1, Ordering::SeqCst);
}

#[message_pattern("admin")]
#[use_guards(JwtGuard, RequireRole::new("admin"))]
async fn admin(State(calls): State<Calls>) {
    calls.0.fetch_add(1, Ordering::SeqCst);
}

#[message_pattern("stale")]
#[use_guards(FailOpenJwtGuard)]
async fn stale(State(calls): State<Calls>) {
    calls.0.fetch_add(1, Ordering::SeqCst);
}

/// The time of a guard, moved by hand.
#[derive(Clone)]
pub(super) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(super) fn at(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds)))
    }

    pub(super) fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub(super) fn clock(&self) -> impl Fn() -> SystemTime + Send + Sync + 'static {
        let seconds = Arc::clone(&self.0);
        move || UNIX_EPOCH + Duration::from_secs(seconds.load(Ordering::SeqCst))
    }
}

/// A running service whose handlers are guarded as one configuration says.
pub(super) struct Guarded {
    prefix: &'static str,
    calls: Calls,
    caller: Connection,
    running: ServiceHandle,
}

impl Guarded {
    /// Starts it below the subject `prefix`.
    pub(super) async fn start(server: &NatsServer, prefix: &'static str, config: JwtConfig) -> Self {
        Self::start_as(nats(server), prefix, config).await
    }

    /// As [`start`](Self::start), for service and caller as the user of `nats`.
    pub(super) async fn start_as(nats: NatsConfig, prefix: &'static str, config: JwtConfig) -> Self {
        let calls = Calls::default();
        let guard = JwtGuard::<UserClaims>::new(config).unwrap();
        let service =
            Service::new(prefix, "1.0.0").handlers(handlers![whoami, read, admin, stale]).subject_prefix(prefix);
        let running = service.guard(guard).provide(calls.clone()).start(nats.clone()).await.unwrap();
        Self { prefix, calls, caller: Connection::open(&nats).await.unwrap(), running }
    }

    /// The connection on which messages are sent to it.
    pub(super) fn caller(&self) -> async_nats::Client {
        self.caller.nats()
    }

    /// How many messages to its handler `whoami` were dropped because they were not sent there.
    pub(super) fn foreign(&self) -> u64 {
        self.running.stats().iter().filter(|stats| stats.handler == "whoami").map(|stats| stats.unexpected).sum()
    }

    /// How many times a handler was called.
    pub(super) fn calls(&self) -> usize {
        self.calls.0.load(Ordering::SeqCst)
    }

    /// The full subject of one of the handlers.
    pub(super) fn subject(&self, handler: &str) -> String {
        format!("{}.{handler}", self.prefix)
    }

    /// The code of the answer (0 for a success), its body, and how many handlers were called for it.
    async fn ask(&self, handler: &str, headers: &[(&'static str, &str)], body: &str) -> (u16, Vec<u8>, usize) {
        for (_, value) in headers {
            capture::secret(value.rsplit_once(' ').map_or(*value, |(_, token)| token));
        }
        let before = self.calls();
        let answer = request_with(&self.caller(), &self.subject(handler), headers, body.to_owned()).await;
        (code(&answer), answer.payload.to_vec(), self.calls() - before)
    }

    /// Asserts that a message is refused without a word of why, and that no handler hears of it.
    #[track_caller]
    pub(super) fn refuses_message<'a>(
        &'a self,
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
    ) -> impl Future<Output = ()> + 'a {
        self.is_answered("whoami", headers, body, 401, Some(UNIFORM))
    }

    /// Asserts the refusal of `code`, and that no handler is called.
    #[track_caller]
    pub(super) fn is_answered<'a>(
        &'a self,
        handler: &'a str,
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
        code: u16,
        reads: Option<&'static [u8]>,
    ) -> impl Future<Output = ()> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.ask(handler, headers, body).await;
            let text = String::from_utf8_lossy(&answer);
            let sent = || format!("{place}: {headers:?} {}", &body[..body.len().min(200)]);
            assert_eq!((found, called), (code, 0), "{text}: {}", sent());
            if let Some(reads) = reads {
                assert_eq!(text, String::from_utf8_lossy(reads), "{}", sent());
            }
            harness::refused();
        }
    }

    /// Asserts that a message reaches the handler, and gives what that saw.
    #[track_caller]
    pub(super) fn takes_message<'a>(
        &'a self,
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
    ) -> impl Future<Output = Seen> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.ask("whoami", headers, body).await;
            let text = String::from_utf8_lossy(&answer);
            assert_eq!((found, called), (0, 1), "{place}: {text}: {headers:?}");
            harness::passed();
            serde_json::from_slice(&answer).unwrap()
        }
    }

    /// As [`takes_message`](Self::takes_message), in NestJS's envelope: the whole answer.
    #[track_caller]
    pub(super) fn takes_nest<'a>(
        &'a self,
        headers: &'a [(&'static str, &'a str)],
        body: &'a str,
    ) -> impl Future<Output = Value> + 'a {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.ask("whoami", headers, body).await;
            assert_eq!((found, called), (0, 1), "{place}: {}", String::from_utf8_lossy(&answer));
            harness::passed();
            serde_json::from_slice(&answer).unwrap()
        }
    }

    /// Asserts that a token in the header is refused.
    #[track_caller]
    pub(super) fn refuses(&self, token: impl AsRef<str>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.present("whoami", token.as_ref()).await;
            let text = String::from_utf8_lossy(&answer);
            assert_eq!((found, called), (401, 0), "{place}: {text}: {:.400}", token.as_ref());
            assert_eq!(text, String::from_utf8_lossy(UNIFORM), "{place}");
            harness::refused();
        }
    }

    /// Asserts that a token in the header is refused as expired: the one reason that a caller learns.
    #[track_caller]
    pub(super) fn refuses_as_expired(&self, token: impl AsRef<str>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.present("whoami", token.as_ref()).await;
            let text = String::from_utf8_lossy(&answer);
            assert_eq!((found, called), (401, 0), "{place}: {text}: {:.400}", token.as_ref());
            assert_eq!(text, String::from_utf8_lossy(EXPIRED), "{place}");
            harness::refused();
        }
    }

    /// Asserts that a token in the header is genuine and yet not enough for `handler`: 403.
    #[track_caller]
    pub(super) fn forbids(&self, handler: &str, token: impl AsRef<str>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.present(handler, token.as_ref()).await;
            assert_eq!((found, called), (403, 0), "{place}: {}", String::from_utf8_lossy(&answer));
            harness::refused();
        }
    }

    /// Asserts that a token in the header is taken, and gives whom the handler saw.
    #[track_caller]
    pub(super) fn takes(&self, token: impl AsRef<str>) -> impl Future<Output = String> {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.present("whoami", token.as_ref()).await;
            let text = String::from_utf8_lossy(&answer);
            assert_eq!((found, called), (0, 1), "{place}: {text}: {:.400}", token.as_ref());
            harness::passed();
            serde_json::from_slice::<Seen>(&answer).unwrap().sub
        }
    }

    /// Asserts that a token in the header lets its bearer call `handler`.
    #[track_caller]
    pub(super) fn lets(&self, handler: &str, token: impl AsRef<str>) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let (found, answer, called) = self.present(handler, token.as_ref()).await;
            assert_eq!((found, called), (0, 1), "{place}: {}", String::from_utf8_lossy(&answer));
            harness::passed();
        }
    }

    /// The code that `whoami` answers a token in the header with; 0 for a success.
    pub(super) async fn code_for(&self, token: &str) -> u16 {
        self.code_at("whoami", token).await
    }

    /// The code that `handler` answers a token in the header with; 0 for a success.
    pub(super) async fn code_at(&self, handler: &str, token: &str) -> u16 {
        let bearer = format!("Bearer {}", capture::secret(token));
        code(&request_with(&self.caller(), &self.subject(handler), &[("authorization", &bearer)], "{}").await)
    }

    /// Waits until the service has all that was sent to it so far.
    pub(super) async fn has_what_was_sent(&self) {
        soon(self.caller().flush()).await.unwrap();
        // What comes to one connection keeps its order.
        self.running.check(PATIENCE).await.unwrap();
    }

    async fn present(&self, handler: &str, token: &str) -> (u16, Vec<u8>, usize) {
        self.ask(handler, &[("authorization", &format!("Bearer {token}"))], "{}").await
    }
}

/// Guarded services of each kind of key on one nats-server, all at [`NOW`].
pub(super) struct World {
    /// Access tokens signed with [`SECRET`].
    pub(super) secret: Guarded,
    /// As `secret`, with the payload's `token` as a second source.
    pub(super) payload: Guarded,
    /// Access tokens signed with the keys below, of which `gateway` is for assertions.
    pub(super) ring: Guarded,
    pub(super) ed: Key,
    pub(super) es: Key,
    pub(super) rs: Key,
    pub(super) gateway: Key,
    pub(super) now: Hand,
    pub(super) server: NatsServer,
}

impl World {
    pub(super) async fn start() -> Self {
        // Room for the tokens of a megabyte.
        let server = server_with(|builder| builder.config("max_payload: 8MB"));
        let now = Hand::at(NOW);
        let (ed, es, rs) = (Key::ed25519("ed"), Key::p256("es"), Key::rsa("rs"));
        let gateway = Key { typ: "gw+jwt", iss: "gateway", ..Key::ed25519("gw") };
        let entries = [&ed, &es, &rs, &gateway].map(Key::entry);
        let keys = KeyRing::from_json(&document(1, &entries)).unwrap();
        let of_secret = || JwtConfig::hs256(secret()).clock(now.clock());
        Self {
            secret: Guarded::start(&server, "secret", of_secret()).await,
            payload: Guarded::start(&server, "payload", of_secret().payload_source("token")).await,
            ring: Guarded::start(&server, "ring", JwtConfig::ring(keys).clock(now.clock())).await,
            ed,
            es,
            rs,
            gateway,
            now,
            server,
        }
    }

    /// Asserts that a token signed with the secret is refused, and so is one of the same claims signed by
    /// the ring's key; that a change of `changes` to the claims is what decides is for a control to show.
    #[track_caller]
    pub(super) fn refuses_claims(&self, changes: Value) -> impl Future<Output = ()> {
        let claims = super::forge::claims_with(changes);
        let by_secret = self.secret.refuses(signed_with_secret(super::forge::HEADER, &claims.to_string()));
        let by_ring = self.ring.refuses(self.ed.token(&claims));
        async move {
            by_secret.await;
            by_ring.await;
        }
    }

    /// Asserts that a token of these claims is taken, whoever signed it, and gives whom the handler saw.
    #[track_caller]
    pub(super) fn takes_claims(&self, changes: Value) -> impl Future<Output = String> {
        let claims = super::forge::claims_with(changes);
        let by_secret = self.secret.takes(signed_with_secret(super::forge::HEADER, &claims.to_string()));
        let by_ring = self.ring.takes(self.ed.token(&claims));
        async move {
            let sub = by_secret.await;
            assert_eq!(by_ring.await, sub);
            sub
        }
    }

    /// A good token, signed with the secret.
    pub(super) fn good(&self) -> String {
        signed_with_secret(super::forge::HEADER, &claims().to_string())
    }
}

pub(super) fn secret() -> SecretKey {
    SecretKey::new("JWT_SECRET", capture::secret(SECRET)).unwrap()
}

/// A payload that carries a token.
pub(super) fn carrying(token: &str) -> String {
    json!({ "token": capture::secret(token) }).to_string()
}
