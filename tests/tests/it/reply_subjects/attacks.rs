//! Callers who would like the service to publish for them: each request with a hostile reply subject, beside the same
//! request with an inbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use async_nats::{HeaderMap, Subscriber};
use bytes::Bytes;
use futures::{FutureExt, Stream, StreamExt, stream};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Limits, RouteStats, ServiceHandle};
use nats_rpc_tests::server_with;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{code, foreign, nats, soon};

/// What an attacker would like to reach. No one of them is an inbox.
const TARGETS: [&str; 9] = [
    "$JS.API.STREAM.PURGE.KV_trust",
    "$KV.trust.ring",
    "$SYS.REQ.USER.INFO",
    "reply.echo",
    "other.victim",
    "_INBOXx.y",
    "_INBOX",
    "_R_x.y",
    "auth.audit.logged_in",
];

const RING: &[u8] = br#"{"keys":[]}"#;
const NEST_ID: &str = "88a5f0d6ac4d1830655c1";

#[derive(Clone)]
struct Seen {
    runs: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Seen {
    fn note(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
    }
}

#[message_pattern("reply.echo")]
#[public]
async fn echo(State(seen): State<Seen>, Payload(value): Payload<Value>) -> Value {
    seen.note();
    value
}

/// Its reply is `null`, which nats-server reads as a request to purge everything.
#[message_pattern("reply.nothing")]
#[public]
async fn nothing(State(seen): State<Seen>) {
    seen.note();
}

#[message_pattern("reply.fails")]
#[public]
async fn fails(State(seen): State<Seen>) -> Result<(), RpcError> {
    seen.note();
    Err(RpcError::not_found("no such thing"))
}

#[message_pattern("reply.large")]
#[public]
async fn large(State(seen): State<Seen>) -> String {
    seen.note();
    "x".repeat(9_000)
}

#[message_pattern("reply.gate", concurrency = 1)]
#[public]
async fn gate(State(seen): State<Seen>) {
    seen.note();
    seen.gate.acquire().await.expect("the gate is never closed").forget();
}

#[message_pattern("reply.slow", timeout_ms = 30)]
#[public]
async fn slow(State(seen): State<Seen>) {
    seen.note();
    std::future::pending::<()>().await;
}

#[message_pattern({"cmd": "reply"})]
#[public]
async fn object(State(seen): State<Seen>, Payload(value): Payload<Value>) -> Value {
    seen.note();
    value
}

#[message_pattern("reply.count")]
#[public]
async fn count(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    seen.note();
    Streaming::new(stream::iter(1..=3).map(Ok))
}

struct Deny;

impl Guard for Deny {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Err(RpcError::unauthenticated("no token"))
    }
}

#[message_pattern("reply.guarded")]
#[use_guards(Deny)]
async fn guarded() {}

#[event_pattern("reply.event")]
async fn event(State(seen): State<Seen>) {
    seen.note();
}

/// A service that a single account shares with its attacker and with a bucket that is not the service's.
struct Stage {
    server: NatsServer,
    service: ServiceHandle,
    seen: Seen,
    attacker: async_nats::Client,
    bucket: kv::Store,
    /// The stream of the bucket.
    stream: jetstream::stream::Stream,
    /// What arrives at the targets.
    spies: Vec<(&'static str, Subscriber)>,
}

impl Stage {
    async fn start() -> Self {
        let server = server_with(|builder| builder.config("max_payload: 8192"));
        let seen = Seen { runs: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let service = Service::new("reply", "1.0.0")
            .handlers(handlers![echo, nothing, fails, large, gate, slow, object, count, guarded, event])
            .provide(seen.clone())
            .guard(Deny)
            .limits(Limits { backlog: 0, ..Limits::default() })
            .start(nats(&server))
            .await
            .unwrap();
        let attacker = foreign(&server).await;
        let jetstream = jetstream::new(foreign(&server).await);
        let config = kv::Config { bucket: "trust".to_owned(), ..Default::default() };
        let bucket = jetstream.create_key_value(config).await.unwrap();
        bucket.put("ring", RING.into()).await.unwrap();
        let stream = jetstream.get_stream("KV_trust").await.unwrap();
        let mut spies = Vec::new();
        for target in TARGETS {
            // The service itself listens to its own subject: there its runs tell.
            if target != "reply.echo" {
                spies.push((target, attacker.subscribe(target).await.unwrap()));
            }
        }
        attacker.flush().await.unwrap();
        Self { server, service, seen, attacker, bucket, stream, spies }
    }

    async fn send(&self, subject: &str, reply: &str, headers: &[(&'static str, &str)], body: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let (subject, reply) = (subject.to_owned(), reply.to_owned());
        let body = Bytes::from(body.to_owned());
        self.attacker.publish_with_reply_and_headers(subject, reply, map, body).await.unwrap();
    }

    /// The code of the first reply to the same request with an inbox.
    async fn control(&self, subject: &str, headers: &[(&'static str, &str)], body: &str) -> u16 {
        let inbox = self.attacker.new_inbox();
        let mut replies = self.attacker.subscribe(inbox.clone()).await.unwrap();
        self.send(subject, &inbox, headers, body).await;
        code(&soon(replies.next()).await.unwrap())
    }

    fn stats(&self, handler: &str) -> RouteStats {
        self.service.stats().into_iter().find(|stats| stats.handler == handler).unwrap()
    }

    fn runs(&self) -> usize {
        self.seen.runs.load(Ordering::SeqCst)
    }

    /// Asserts that nothing has arrived at any target, and that the bucket is as it was.
    async fn unharmed(&mut self, what: &str) {
        // What the service published before the reply of a control has passed the server.
        self.attacker.flush().await.unwrap();
        soon(self.attacker.request("reply.echo", "1".into())).await.unwrap();
        for (target, spy) in &mut self.spies {
            let arrived = spy.next().now_or_never();
            assert!(arrived.is_none(), "{what}: {target} was published to: {arrived:?}");
        }
        let state = self.stream.get_info().await.unwrap().state;
        assert_eq!((state.messages, state.last_sequence), (1, 1), "{what}");
        let entry = self.bucket.entry("ring").await.unwrap().unwrap();
        assert_eq!((entry.revision, &entry.value[..]), (1, RING), "{what}");
    }
}

struct Attack {
    handler: &'static str,
    subject: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: String,
    /// What the same request with an inbox is answered.
    code: u16,
    /// Whether its handler runs then.
    runs: bool,
}

fn attacks() -> Vec<Attack> {
    let nest = |pattern: Value| json!({ "pattern": pattern, "data": { "keys": [] }, "id": NEST_ID }).to_string();
    let plain = |handler, subject, code| Attack {
        handler,
        subject,
        headers: &[],
        body: r#"{"keys":[]}"#.to_owned(),
        code,
        runs: true,
    };
    vec![
        plain("echo", "reply.echo", 0),
        plain("nothing", "reply.nothing", 0),
        plain("fails", "reply.fails", 404),
        plain("large", "reply.large", 413),
        plain("slow", "reply.slow", 504),
        plain("object", r#"{"cmd":"reply"}"#, 0),
        Attack { runs: false, ..plain("guarded", "reply.guarded", 401) },
        Attack { runs: false, body: "{".to_owned(), ..plain("echo", "reply.echo", 400) },
        Attack { runs: false, headers: &[("Rpc-Deadline", "1")], ..plain("echo", "reply.echo", 504) },
        Attack { headers: &[("Rpc-Stream", "open 5")], ..plain("count", "reply.count", 0) },
        Attack { body: nest(json!("reply.echo")), ..plain("echo", "reply.echo", 0) },
        Attack { body: nest(json!("reply.count")), ..plain("count", "reply.count", 0) },
        Attack { body: nest(json!("reply.fails")), ..plain("fails", "reply.fails", 404) },
        Attack { body: nest(json!({ "cmd": "reply" })), ..plain("object", r#"{"cmd":"reply"}"#, 0) },
        Attack { runs: false, body: nest(json!("reply.guarded")), ..plain("guarded", "reply.guarded", 401) },
    ]
}

#[tokio::test]
async fn no_request_makes_the_service_publish_elsewhere() {
    let mut stage = Stage::start().await;
    for attack in attacks() {
        let what = format!("{} {:?} {}", attack.subject, attack.headers, attack.body);
        let (before, runs) = (stage.stats(attack.handler), stage.runs());
        for target in TARGETS {
            stage.send(attack.subject, target, attack.headers, &attack.body).await;
        }
        assert_eq!(stage.control(attack.subject, attack.headers, &attack.body).await, attack.code, "{what}");
        let after = stage.stats(attack.handler);
        let rejected = after.rejected_reply_subjects - before.rejected_reply_subjects;
        assert_eq!(rejected, TARGETS.len() as u64, "{what}");
        assert_eq!(after.requests - before.requests, 1, "{what}: the control alone is handled");
        assert_eq!(stage.runs() - runs, usize::from(attack.runs), "{what}: only the handler of the control runs");
        stage.unharmed(&what).await;
    }
}

#[tokio::test]
async fn an_overloaded_service_sheds_to_inboxes_alone() {
    let mut stage = Stage::start().await;
    let inbox = stage.attacker.new_inbox();
    let mut occupant = stage.attacker.subscribe(inbox.clone()).await.unwrap();
    stage.send("reply.gate", &inbox, &[], "").await;
    let runs = async {
        while stage.runs() == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(runs).await;
    for target in TARGETS {
        stage.send("reply.gate", target, &[], "").await;
    }
    assert_eq!(stage.control("reply.gate", &[], "").await, 503);
    let stats = stage.stats("gate");
    assert_eq!((stats.shed, stats.rejected_reply_subjects), (1, TARGETS.len() as u64));
    stage.seen.gate.add_permits(1);
    assert_eq!(code(&soon(occupant.next()).await.unwrap()), 0);
    stage.unharmed("503").await;
}

#[tokio::test]
async fn srv_replies_go_to_inboxes_alone() {
    let mut stage = Stage::start().await;
    for verb in ["PING", "INFO", "STATS"] {
        for subject in [format!("$SRV.{verb}"), format!("$SRV.{verb}.reply")] {
            for target in TARGETS {
                stage.send(&subject, target, &[], "").await;
            }
            // All of these are read by the same task, so the attacks are behind it.
            assert_eq!(stage.control(&subject, &[], "").await, 0);
        }
        stage.unharmed(verb).await;
    }
    assert_eq!(stage.runs(), 3, "the probes, and no description that was sent to `reply.echo`");
}

/// As `$SRV.STATS` shows it.
#[tokio::test]
async fn rejected_reply_subjects_are_counted_in_the_statistics() {
    let stage = Stage::start().await;
    stage.send("reply.echo", "$KV.trust.ring", &[], "1").await;
    assert_eq!(stage.control("reply.echo", &[], "1").await, 0);
    let stats = soon(stage.attacker.request("$SRV.STATS.reply", "".into())).await.unwrap();
    let stats: Value = serde_json::from_slice(&stats.payload).unwrap();
    let endpoints = stats["endpoints"].as_array().unwrap();
    let echo = endpoints.iter().find(|endpoint| endpoint["name"] == "echo").unwrap();
    assert_eq!(echo["data"]["rejected_reply_subjects"], 1);
    stage.service.reset_stats();
    assert_eq!(stage.stats("echo").rejected_reply_subjects, 0);
}

#[tokio::test]
async fn events_run_and_their_replies_go_to_inboxes_alone() {
    let mut stage = Stage::start().await;
    let envelope = json!({ "pattern": "reply.event", "data": 1, "id": NEST_ID }).to_string();
    for target in TARGETS {
        stage.send("reply.event", target, &[], &envelope).await;
    }
    let inbox = stage.attacker.new_inbox();
    let mut replies = stage.attacker.subscribe(inbox.clone()).await.unwrap();
    stage.send("reply.event", &inbox, &[], &envelope).await;
    let reply: Value = serde_json::from_slice(&soon(replies.next()).await.unwrap().payload).unwrap();
    assert_eq!(reply, json!({ "isDisposed": true, "id": NEST_ID }));
    assert_eq!(stage.runs(), TARGETS.len() + 1, "every event is handled");
    let stats = stage.stats("event");
    let count = TARGETS.len() as u64;
    assert_eq!((stats.requests, stats.rejected_reply_subjects), (count + 1, count));
    stage.unharmed("events").await;
}

#[test]
fn rejected_reply_subjects_are_counted_in_the_metrics() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let stage = Stage::start().await;
            for target in TARGETS {
                stage.send("reply.echo", target, &[], "1").await;
                stage.send("$SRV.PING", target, &[], "").await;
            }
            assert_eq!(stage.control("reply.echo", &[], "1").await, 0);
            assert_eq!(stage.control("$SRV.PING", &[], "").await, 0);
        });
    });
    let counted = snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
        let key = key.key();
        let handler = key.labels().find(|label| label.key() == "handler")?.value().to_owned();
        match value {
            DebugValue::Counter(count @ 1..) if key.name() == "nats_rpc_reply_subjects_rejected_total" => {
                Some((handler, count))
            }
            _ => None,
        }
    });
    let mut counted: Vec<_> = counted.collect();
    counted.sort();
    let each = TARGETS.len() as u64;
    assert_eq!(counted, [("$SRV".to_owned(), each), ("echo".to_owned(), each)]);
}

/// A rejected request is no request that a stop would wait for, nor one that it would miss.
#[tokio::test]
async fn a_stop_after_rejected_requests_is_quick() {
    let stage = Stage::start().await;
    for _ in 0..100 {
        stage.send("reply.echo", "other.victim", &[], "1").await;
    }
    assert_eq!(stage.control("reply.echo", &[], "1").await, 0);
    let Stage { service, server, .. } = stage;
    tokio::time::timeout(Duration::from_secs(5), service.stop()).await.unwrap();
    drop(server);
}
