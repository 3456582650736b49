//! Handlers that panic, hang and reply with too much data, and callers that send invalid requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::{NatsConfig, ServiceHandle, TIMEOUT_HEADER};
use tokio::sync::Semaphore;

use super::load::status;
use super::report::Row;
use super::stage::{grouped, runtime, soon, until};
use super::{Options, stage};

/// Permits of the handler, all of which must be free after each storm.
const PERMITS: u64 = 128;
const IN_FLIGHT: u64 = 100;
/// Timeout of a caller.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Handler timeout of a handler that never ends, in milliseconds.
const SHORT: &str = "30";
/// Handler timeout of all others: more than a slow machine needs for all requests in flight.
const AMPLE: &str = "8000";
/// A size above `max_payload`, in bytes.
const TOO_MUCH: usize = 70_000;
/// Message of a storm's panics.
const STORM: &str = "a panic of the storm";

#[derive(Clone)]
struct Gate {
    holding: Arc<AtomicU64>,
    open: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Deed {
    Panic,
    PanicLater,
    PanicWhenDropped,
    Hang,
    Large,
    LargeError,
    Hold,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("{STORM}");
    }
}

#[message_pattern("storm.do", concurrency = 128)]
async fn act(State(gate): State<Gate>, Payload(deed): Payload<Deed>) -> Result<String, RpcError> {
    match deed {
        Deed::Panic => panic!("{STORM}"),
        Deed::PanicLater => {
            tokio::task::yield_now().await;
            panic!("{STORM}");
        }
        Deed::PanicWhenDropped => {
            let _bomb = PanicsWhenDropped;
            std::future::pending().await
        }
        Deed::Hang => std::future::pending().await,
        Deed::Large => Ok("x".repeat(TOO_MUCH)),
        Deed::LargeError => Err(RpcError::conflict("x".repeat(TOO_MUCH))),
        Deed::Hold => {
            gate.holding.fetch_add(1, Ordering::SeqCst);
            gate.open.acquire().await.internal()?.forget();
            Ok(String::new())
        }
    }
}

struct Storm {
    name: &'static str,
    body: &'static str,
    /// The code of every reply; `None` for requests without a reply subject.
    code: Option<u16>,
    budget_ms: &'static str,
}

const STORMS: [Storm; 9] = [
    Storm { name: "panic at once", body: "\"panic\"", code: Some(500), budget_ms: AMPLE },
    Storm { name: "panic after a pause", body: "\"panic_later\"", code: Some(500), budget_ms: AMPLE },
    Storm { name: "hang, and panic when dropped", body: "\"panic_when_dropped\"", code: Some(500), budget_ms: SHORT },
    Storm { name: "hang", body: "\"hang\"", code: Some(504), budget_ms: SHORT },
    Storm { name: "answer more than max_payload", body: "\"large\"", code: Some(413), budget_ms: AMPLE },
    Storm { name: "an error of more than max_payload", body: "\"large_error\"", code: Some(409), budget_ms: AMPLE },
    Storm { name: "bad JSON", body: "{\"panic\":", code: Some(400), budget_ms: AMPLE },
    Storm { name: "no reply subject, panic", body: "\"panic\"", code: None, budget_ms: AMPLE },
    Storm { name: "no reply subject, hang", body: "\"hang\"", code: None, budget_ms: SHORT },
];

pub(super) fn run(options: Options) -> Vec<Row> {
    stage::hush_panics_of(STORM);
    let runtime = runtime(2);
    runtime.block_on(async {
        let server = crate::server_with(|builder| builder.jetstream(false).config("max_payload: 64KB"));
        let gate = Gate { holding: Arc::default(), open: Arc::new(Semaphore::new(0)) };
        let service = Service::new("storm", "1.0.0").handlers(handlers![act]).provide(gate.clone());
        let running = soon(service.start(NatsConfig::new(server.url()))).await.expect("a service");
        let nats = async_nats::connect(server.url()).await.expect("a connection");
        let count = options.pick(10_000, 300);
        let mut rows = Vec::new();
        for storm in &STORMS {
            rows.push(rage(storm, count, &nats, &running, &gate).await);
        }
        soon(running.stop()).await;
        rows
    })
}

async fn rage(storm: &Storm, count: u64, nats: &async_nats::Client, running: &ServiceHandle, gate: &Gate) -> Row {
    let began = Instant::now();
    let (answers, unanswered) = match storm.code {
        Some(_) => ask_all(storm, count, nats).await,
        None => publish_all(storm, count, nats, running).await,
    };
    let took = began.elapsed();
    let permits = count_permits(nats, gate).await;
    let told: Vec<_> = answers.iter().map(|(code, count)| format!("{} × {code}", grouped(*count))).collect();
    let told = if told.is_empty() { format!("{} handled", grouped(count - unanswered)) } else { told.join(", ") };
    let as_coded = storm.code.is_none_or(|code| answers.get(&code) == Some(&count));
    let counts =
        format!("{told}, {unanswered} without an end, {permits} of {PERMITS} permits, {:.1} s", took.as_secs_f64());
    let passed = as_coded && unanswered == 0 && permits == PERMITS;
    Row::new(storm.name, "all of one code, 0 without an end, all permits back", passed, counts)
}

impl Storm {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT_HEADER, self.budget_ms);
        headers
    }
}

/// Returns the codes of all replies, and the number of missing ones.
async fn ask_all(storm: &Storm, count: u64, nats: &async_nats::Client) -> (BTreeMap<u16, u64>, u64) {
    let left = AtomicU64::new(count);
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let callers = join_all((0..IN_FLIGHT).map(|_| async {
        let mut ended = Vec::new();
        while take() {
            let asked =
                nats.request_with_headers("storm.do", storm.headers(), Bytes::from_static(storm.body.as_bytes()));
            let answer = tokio::time::timeout(TIMEOUT, asked).await;
            ended.push(answer.ok().and_then(Result::ok).map(|answer| status(&answer)));
        }
        ended
    }));
    let mut answers = BTreeMap::new();
    let mut unanswered = 0;
    for ended in callers.await.into_iter().flatten() {
        match ended {
            Some(code) => *answers.entry(code).or_default() += 1,
            None => unanswered += 1,
        }
    }
    (answers, unanswered)
}

/// Publishes requests without a reply subject, and counts them by the service's own statistics.
async fn publish_all(
    storm: &Storm,
    count: u64,
    nats: &async_nats::Client,
    running: &ServiceHandle,
) -> (BTreeMap<u16, u64>, u64) {
    let handled = || running.stats().iter().map(|stats| stats.requests).sum::<u64>();
    let before = handled();
    let mut sent = 0;
    while sent < count {
        let batch = IN_FLIGHT.min(count - sent);
        for _ in 0..batch {
            let body = Bytes::from_static(storm.body.as_bytes());
            nats.publish_with_headers("storm.do", storm.headers(), body).await.expect("it is published");
        }
        sent += batch;
        // Sends no more than the permits allow, because the service would reject the rest.
        if until(TIMEOUT, async || handled() >= before + sent).await.is_none() {
            break;
        }
    }
    (BTreeMap::new(), (before + count).saturating_sub(handled()))
}

/// Returns the number of requests that run concurrently now.
async fn count_permits(nats: &async_nats::Client, gate: &Gate) -> u64 {
    gate.holding.store(0, Ordering::SeqCst);
    let callers = join_all((0..PERMITS).map(|_| {
        let asked = nats.request("storm.do", Bytes::from_static(b"\"hold\""));
        async move { matches!(tokio::time::timeout(TIMEOUT, asked).await, Ok(Ok(answer)) if status(&answer) == 0) }
    }));
    let release = async {
        // The result is the number of arrivals, so a wait that times out is a result too.
        let _ = until(TIMEOUT / 2, async || gate.holding.load(Ordering::SeqCst) == PERMITS).await;
        let running = gate.holding.load(Ordering::SeqCst);
        gate.open.add_permits(PERMITS as usize);
        running
    };
    let (answered, running) = futures::join!(callers, release);
    let answered = answered.into_iter().filter(|answered| *answered).count() as u64;
    running.min(answered)
}
