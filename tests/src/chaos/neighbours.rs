//! A handler that sleeps, and one that burns CPU, next to a fast one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nats_rpc::NatsConfig;
use nats_rpc::prelude::*;

use super::Options;
use super::load::{Load, request};
use super::report::Row;
use super::stage::{runtime, soon};

const TIMEOUT: Duration = Duration::from_secs(5);
const BURN: Duration = Duration::from_millis(50);
/// Requests per second to each handler.
const FAST: u32 = 200;
const SLEEPERS: u32 = 300;
const BURNERS: u32 = 4;
/// Latencies below this are not compared: timers are that coarse.
const FLOOR: Duration = Duration::from_millis(1);

#[message_pattern("next.fast")]
async fn fast() {}

#[message_pattern("next.sleeps")]
async fn sleeps() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[message_pattern("next.burns")]
async fn burns() {
    let began = Instant::now();
    while began.elapsed() < BURN {
        black_box((0..1_000_u64).fold(0, |sum: u64, number| sum.wrapping_mul(31).wrapping_add(number)));
    }
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let served = runtime(2);
    let calling = runtime(1);
    let server = crate::server_with(|builder| builder.jetstream(false));
    let service = Service::new("next", "1.0.0").handlers(handlers![fast, sleeps, burns]);
    let running = served.block_on(service.start(NatsConfig::new(server.url()))).expect("a service");
    let rows = calling.block_on(async {
        let nats = async_nats::connect(server.url()).await.expect("a connection");
        measure(&nats, options).await
    });
    served.block_on(soon(running.stop()));
    rows
}

async fn measure(nats: &async_nats::Client, options: Options) -> Vec<Row> {
    let rounds = options.pick(9, 1);
    let each = Duration::from_secs(options.pick(2, 1));
    let (mut alone, mut asleep, mut burning) = (Vec::new(), Vec::new(), Vec::new());
    let (mut factors, mut delays) = (Vec::new(), Vec::new());
    // The speed of the machine varies over time. So each measurement is compared with the runs alone before and after
    // it. A disturbed round is an outlier without weight.
    for _ in 0..rounds {
        let before = p99(nats, each, None).await;
        let beside_sleep = p99(nats, each, Some(("next.sleeps", SLEEPERS))).await;
        let between = p99(nats, each, None).await;
        let beside_burn = p99(nats, each, Some(("next.burns", BURNERS))).await;
        let after = p99(nats, each, None).await;
        factors.push(beside_sleep.as_secs_f64() / before.max(between).max(FLOOR).as_secs_f64());
        delays.push(beside_burn.saturating_sub(between.max(after)));
        alone.extend([before, between, after]);
        asleep.push(beside_sleep);
        burning.push(beside_burn);
    }
    let (factor, delay) = (median(factors), median(delays));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    vec![
        Row::new("p99 alone", "", true, format!("{:.2} ms", ms(median(alone)))),
        Row::new(
            "p99 beside a handler that sleeps",
            "≤ 1.5 x (1 ms at least)",
            factor <= 1.5,
            format!("{:.2} ms, {factor:.2} x, of {rounds} rounds", ms(median(asleep))),
        ),
        Row::new(
            "p99 beside a handler that burns 50 ms",
            "≤ alone + one burn",
            delay <= BURN.mul_f64(1.1),
            format!("{:.2} ms, {:.2} ms more, of {rounds} rounds", ms(median(burning)), ms(delay)),
        ),
    ]
}

async fn p99(nats: &async_nats::Client, how_long: Duration, beside: Option<(&'static str, u32)>) -> Duration {
    let load = |subject: &'static str, rate| {
        let nats = nats.clone();
        Load::start(rate, TIMEOUT, move |_| {
            let nats = nats.clone();
            async move { request(&nats, subject.to_owned(), Bytes::new(), TIMEOUT).await }
        })
    };
    let beside = beside.map(|(subject, rate)| load(subject, rate));
    let measured = load("next.fast", FAST);
    tokio::time::sleep(how_long).await;
    let p99 = measured.finish().await.quantile(0.99);
    if let Some(beside) = beside {
        beside.finish().await;
    }
    p99
}

fn median<T: PartialOrd + Copy>(mut values: Vec<T>) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("no value is a NaN"));
    values[values.len() / 2]
}
