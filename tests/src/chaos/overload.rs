//! Twice as many requests as a service can handle, for a handler that waits and for one that only computes.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::{Limits, NatsConfig};

use super::Options;
use super::load::{Ended, Load, request};
use super::report::Row;
use super::stage::{grouped, resident_kb, runtime, soon};

const TIMEOUT: Duration = Duration::from_secs(1);
const CONCURRENCY: usize = 10;
const BACKLOG: usize = 50;
/// Maximum growth of the process, in kB: buffers that the load itself fills.
const GROWTH_KB: u64 = 16 * 1024;

#[message_pattern("over.work", concurrency = 10)]
async fn work() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

/// Completes in its first poll, so that it never occupies a slot or a queue that the service could count.
#[message_pattern("over.compute")]
async fn compute() {
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(1) {
        black_box((0..1_000_u64).fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number)));
    }
}

/// A handler, with the calls of its row.
#[derive(Clone, Copy)]
struct Handler {
    name: &'static str,
    subject: &'static str,
}

const HANDLERS: [Handler; 2] =
    [Handler { name: "waits", subject: "over.work" }, Handler { name: "computes", subject: "over.compute" }];

pub(super) fn run(options: Options) -> Vec<Row> {
    let served = runtime(1);
    let calling = runtime(1);
    let server = crate::server_with(|builder| builder.jetstream(false));
    let limits = Limits { backlog: BACKLOG, ..Limits::default() };
    let service = Service::new("over", "1.0.0").handlers(handlers![work, compute]).limits(limits);
    let running = served.block_on(service.start(NatsConfig::new(server.url()))).expect("a service");
    let rows = calling.block_on(async {
        let nats = async_nats::connect(server.url()).await.expect("a connection");
        let mut rows = Vec::new();
        for handler in HANDLERS {
            rows.extend(overload(&nats, handler, options).await);
        }
        rows
    });
    served.block_on(soon(running.stop()));
    rows
}

async fn overload(nats: &async_nats::Client, handler: Handler, options: Options) -> Vec<Row> {
    let seconds = options.pick(6, 1);
    let capacity = measure_capacity(nats, handler, Duration::from_secs(options.pick(3, 1))).await;
    let before = resident_kb();
    let began = Instant::now();
    let load = start(nats, handler, capacity * 2.0);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let took = began.elapsed();
    let during = load.tally();
    // Requests immediately after the flood measure the recovery.
    let (after, flood) = tokio::join!(
        async {
            let calm = start(nats, handler, capacity / 2.0);
            let began = Instant::now();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let tally = calm.finish().await;
            tally.trouble.map_or(Duration::ZERO, |(_, last)| last.saturating_duration_since(began))
        },
        load.finish()
    );
    let growth = resident_kb().saturating_sub(before);

    // Tolerance for clocks and for a machine that also runs tests. Without admission the goodput would be 0.
    let (enough, slack) = options.pick((85.0, Duration::from_millis(30)), (40.0, Duration::from_millis(500)));
    let goodput = during.answered as f64 / took.as_secs_f64();
    let share = 100.0 * goodput / capacity;
    let p99 = flood.quantile(0.99);
    let bound = Duration::from_secs_f64((BACKLOG + CONCURRENCY) as f64 / capacity) + slack;
    let case = |what| format!("{}: {what}", handler.name);
    vec![
        Row::new(
            case("goodput at 2 x capacity"),
            options.pick("≥ 85 % of capacity, 0 timed out", "≥ 40 % of capacity, 0 timed out"),
            share >= enough && flood.timed_out == 0,
            format!(
                "{goodput:.0}/s of {capacity:.0}/s = {share:.0} %; offered {}, 503 {}, timed out {}",
                grouped(flood.offered),
                grouped(flood.busy),
                flood.timed_out
            ),
        ),
        Row::new(
            case("p99 of the answered"),
            options.pick("≤ backlog / capacity + 30 ms", "≤ backlog / capacity + 500 ms"),
            p99 <= bound,
            format!("{:.0} ms, bound {:.0} ms", p99.as_secs_f64() * 1e3, bound.as_secs_f64() * 1e3),
        ),
        Row::new(case("memory"), "grows by < 16 MB", growth < GROWTH_KB, format!("grew by {} kB", grouped(growth))),
        Row::new(
            case("recovery at capacity / 2"),
            "no trouble after 1 s",
            after <= Duration::from_secs(1),
            format!("last trouble at +{} ms", after.as_millis()),
        ),
    ]
}

fn start(nats: &async_nats::Client, handler: Handler, rate: f64) -> Load {
    let nats = nats.clone();
    Load::start(rate as u32, TIMEOUT, move |_| {
        let nats = nats.clone();
        async move { request(&nats, handler.subject.to_owned(), Bytes::new(), TIMEOUT).await }
    })
}

/// Measures replies per second while the handler is always busy and never overloaded.
async fn measure_capacity(nats: &async_nats::Client, handler: Handler, how_long: Duration) -> f64 {
    let began = Instant::now();
    let callers = (0..CONCURRENCY * 3).map(|_| async {
        let mut answered = 0_u32;
        while began.elapsed() < how_long {
            let ended = request(nats, handler.subject.to_owned(), Bytes::new(), TIMEOUT).await;
            answered += u32::from(ended == Ended::Answered);
        }
        answered
    });
    let answered: u32 = join_all(callers).await.into_iter().sum();
    f64::from(answered) / began.elapsed().as_secs_f64()
}
