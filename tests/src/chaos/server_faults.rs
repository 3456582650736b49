//! nats-server is killed, terminated, frozen, or leaves, while callers keep calling.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Limits, NatsConfig};

use super::Options;
use super::load::{Ended, Load, call, request};
use super::report::Row;
use super::stage::{grouped, now_ms, runtime, soon, until};

const TIMEOUT: Duration = Duration::from_secs(1);
/// Tolerated preemption by the operating system between the check and the handler's first line.
const PREEMPTED_MS: u64 = 20;
/// Maximum time until the service replies once the server is back.
const RETURN_LIMIT: Duration = Duration::from_secs(1);
/// Maximum time of a lame duck; with a handful of clients it takes some 5 s.
const LAME_DUCK_LIMIT: Duration = Duration::from_secs(40);

/// Handlers that started after their caller's timeout, and the longest delay.
#[derive(Clone, Default)]
pub(super) struct LateStarts {
    count: Arc<AtomicU64>,
    most_ms: Arc<AtomicU64>,
}

impl LateStarts {
    /// Returns the payload of a request for [`note`](Self::note): the time at which its caller gives up.
    pub(super) fn deadline() -> u64 {
        now_ms() + TIMEOUT.as_millis() as u64
    }

    pub(super) fn note(&self, deadline: u64) {
        let late = now_ms().saturating_sub(deadline);
        if late > PREEMPTED_MS {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.most_ms.fetch_max(late, Ordering::Relaxed);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn told(&self) -> String {
        match self.count() {
            0 => "0 late starts".to_owned(),
            count => format!("{count} late starts by ≤ {} ms", self.most_ms.load(Ordering::Relaxed)),
        }
    }
}

#[message_pattern("fault.work")]
async fn work(State(late): State<LateStarts>, Payload(deadline): Payload<u64>) {
    late.note(deadline);
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// Caller and handler share one clock, so the check needs no tolerance for clock skew.
pub(super) fn service(late: &LateStarts) -> Service {
    let limits = Limits { clock_skew: Duration::ZERO, ..Limits::default() };
    Service::new("fault", "1.0.0").handlers(handlers![work]).provide(late.clone()).limits(limits)
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Terminate,
    Freeze,
    LameDuck,
}

pub(super) fn run(options: Options) -> Vec<Row> {
    // A lame duck takes longer than tests may.
    let faults: &[Fault] =
        options.pick(&[Fault::Kill, Fault::Terminate, Fault::Freeze, Fault::LameDuck], &[Fault::Kill, Fault::Freeze]);
    let runtime = runtime(2);
    faults.iter().map(|&fault| runtime.block_on(try_fault(fault, options))).collect()
}

impl Fault {
    fn name(self, options: Options) -> String {
        match self {
            Self::Kill => "kill -9, down for 300 ms".to_owned(),
            Self::Terminate => "SIGTERM, down for 2 s".to_owned(),
            Self::Freeze => format!("SIGSTOP for {} s", options.pick(5, 2)),
            Self::LameDuck => "lame duck, then back".to_owned(),
        }
    }

    /// Causes the fault, and returns when the server is back.
    async fn inflict(self, server: &mut NatsServer, options: Options) {
        match self {
            Self::Kill => {
                tokio::task::block_in_place(|| server.kill());
                tokio::time::sleep(Duration::from_millis(300)).await;
                tokio::task::block_in_place(|| server.restart()).expect("the server starts again");
            }
            Self::Terminate => {
                tokio::task::block_in_place(|| server.terminate());
                tokio::time::sleep(Duration::from_secs(2)).await;
                tokio::task::block_in_place(|| server.restart()).expect("the server starts again");
            }
            Self::Freeze => {
                server.pause().expect("the server runs");
                tokio::time::sleep(Duration::from_secs(options.pick(5, 2))).await;
                server.resume().expect("the server runs");
            }
            Self::LameDuck => {
                server.lame_duck().expect("the server runs");
                let gone = until(LAME_DUCK_LIMIT, async || server.log().contains("Server Exiting")).await;
                gone.expect("a lame duck dies");
                tokio::task::block_in_place(|| server.restart()).expect("the server starts again");
            }
        }
    }
}

async fn try_fault(fault: Fault, options: Options) -> Row {
    let config = "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n";
    let mut server = crate::server_with(|builder| builder.jetstream(false).config(config));
    let late = LateStarts::default();
    let nats = NatsConfig::new(server.url());
    let running = soon(service(&late).start(nats.clone())).await.expect("a service");
    let client = soon(Client::connect(&nats)).await.expect("a client").timeout(TIMEOUT);

    let load = Load::start(options.pick(500, 200), TIMEOUT + options.grace(), move |_| {
        let client = client.clone();
        async move { call(&client, "fault.work", &LateStarts::deadline()).await }
    });
    load.wait_for_answers(options.pick(1_000, 100), Duration::from_secs(10)).await;
    let began = Instant::now();
    fault.inflict(&mut server, options).await;
    let back = until(Duration::from_secs(10), async || answers(&server).await).await;
    load.wait_for_answers(options.pick(1_000, 100), Duration::from_secs(10)).await;
    let tally = load.finish().await;
    soon(running.stop()).await;

    let trouble = tally.trouble.map_or(Duration::ZERO, |(_, last)| last.saturating_duration_since(began));
    let returned = back.map_or("never".to_owned(), |back| format!("after {} ms", back.as_millis()));
    let counts = format!(
        "{} of {} answered{}, the last trouble at +{} ms, {} past the deadline, {}, answers again {returned}",
        grouped(tally.answered),
        grouped(tally.offered),
        tally.losses(),
        trouble.as_millis(),
        tally.late,
        late.told(),
    );
    let passed = tally.late == 0 && late.count() == 0 && back.is_some_and(|back| back <= RETURN_LIMIT);
    Row::new(fault.name(options), "0 past the deadline, 0 late starts, answers ≤ 1 s after", passed, counts)
}

/// Returns `true` if a new caller gets a reply.
async fn answers(server: &NatsServer) -> bool {
    let asked = async {
        let nats = async_nats::connect(server.url()).await.ok()?;
        let body = Bytes::from(LateStarts::deadline().to_string());
        Some(request(&nats, "fault.work".to_owned(), body, Duration::from_millis(200)).await)
    };
    matches!(tokio::time::timeout(Duration::from_millis(400), asked).await, Ok(Some(Ended::Answered)))
}
