//! Instances are replaced while callers without retries keep calling.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::{NatsConfig, ServiceHandle};

use super::Options;
use super::load::{Ended, Load, Tally, request};
use super::report::Row;
use super::stage::{grouped, runtime, soon};
use crate::proxy::{Proxy, Which};

/// Timeout of a caller, longer than any graceful shutdown.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Working time of a plain handler and of a slow one, in milliseconds.
const WORK: u64 = 5;
const SLOW_WORK: u64 = 50;
/// Requests around each shutdown of an idle service.
const ROUND_THE_STOP: usize = 12;

#[message_pattern("roll.00")]
#[message_pattern("roll.01")]
#[message_pattern("roll.02")]
#[message_pattern("roll.03")]
#[message_pattern("roll.04")]
#[message_pattern("roll.05")]
#[message_pattern("roll.06")]
#[message_pattern("roll.07")]
#[message_pattern("roll.08")]
#[message_pattern("roll.09")]
#[message_pattern("roll.10")]
#[message_pattern("roll.11")]
#[message_pattern("roll.12")]
#[message_pattern("roll.13")]
#[message_pattern("roll.14")]
#[message_pattern("roll.15")]
#[message_pattern("roll.16")]
#[message_pattern("roll.17")]
#[message_pattern("roll.18")]
#[message_pattern("roll.19")]
async fn twenty(Payload(millis): Payload<u64>) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[message_pattern("roll.00")]
async fn single(Payload(millis): Payload<u64>) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Requests per second; `None` for a service that is idle except for [`ROUND_THE_STOP`].
    rate: Option<u32>,
    /// Number of replies to wait for before each shutdown.
    answers: u64,
    /// `true` to cut and renew every instance's connection before each shutdown.
    cut: bool,
    twenty: bool,
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let busy = options.pick(2_000, 400);
    let plain = Case { name: "busy", rate: Some(busy), answers: options.pick(200, 40), cut: false, twenty: false };
    let quiet = Case { name: "20/s", rate: Some(20), answers: 4, ..plain };
    let idle = Case { name: "idle, 12 round the stop", rate: None, ..plain };
    let cases = [
        plain,
        quiet,
        idle,
        Case { name: "busy, after a cut", cut: true, ..plain },
        Case { name: "idle, after a cut", cut: true, ..idle },
        Case { name: "20 routes", twenty: true, ..plain },
        Case { name: "20 routes, after a cut", cut: true, twenty: true, ..plain },
    ];
    let trips: &[u64] = options.pick(&[0, 2, 20], &[2]);
    let rounds = options.pick(20, 2);
    let runtime = runtime(2);
    let mut rows = Vec::new();
    for case in cases {
        for &trip in trips {
            rows.push(runtime.block_on(try_case(case, Duration::from_millis(trip), rounds, options)));
        }
    }
    rows.extend(trips.iter().map(|trip| runtime.block_on(stop_idle(Duration::from_millis(*trip), rounds, options))));
    rows
}

/// Shuts down an idle service.
async fn stop_idle(trip: Duration, rounds: u32, options: Options) -> Row {
    let server = crate::server_with(|builder| builder.jetstream(false));
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let Instance { running, proxy } = Instance::start(server.port(), trip, true).await;
        let started = Instant::now();
        soon(running.stop()).await;
        longest = longest.max(started.elapsed());
        drop(proxy);
    }
    // A machine that runs tests is busy; there the shutdown only has to end.
    let limit = options.pick(Duration::from_millis(300), Duration::from_secs(5));
    Row::new(
        format!("idle stop, 20 routes, RTT {} ms", trip.as_millis()),
        options.pick("< 300 ms", "< 5 s"),
        longest < limit,
        format!("{rounds} stops of ≤ {} ms", longest.as_millis()),
    )
}

struct Instance {
    running: ServiceHandle,
    proxy: Proxy,
}

impl Instance {
    async fn start(port: u16, trip: Duration, twenty_routes: bool) -> Self {
        let proxy = Proxy::to(port).delay(trip / 2).start().await.expect("a proxy");
        let handlers = if twenty_routes { handlers![twenty] } else { handlers![single] };
        let service = Service::new("roll", "1.0.0").handlers(handlers);
        let running = soon(service.start(NatsConfig::new(proxy.url()))).await.expect("an instance");
        Self { running, proxy }
    }

    /// Cuts the connection and waits until messages arrive through a new one.
    async fn reconnect(&self) {
        self.proxy.cut(Which::All).await;
        self.running.check(Duration::from_secs(10)).await.expect("the connection is renewed");
    }
}

async fn try_case(case: Case, trip: Duration, rounds: u32, options: Options) -> Row {
    let server = crate::server_with(|builder| builder.jetstream(false));
    let nats = async_nats::connect(server.url()).await.expect("a connection");
    let mut random = options.random();
    let mut instances = vec![
        Instance::start(server.port(), trip, case.twenty).await,
        Instance::start(server.port(), trip, case.twenty).await,
    ];
    let load = case.rate.map(|rate| start_load(&nats, rate, case.twenty, random.fork()));
    let mut around = Tally::default();
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        instances.push(Instance::start(server.port(), trip, case.twenty).await);
        if case.cut {
            if let Some(load) = &load {
                load.pause().await;
            }
            soon(join_all(instances.iter().map(Instance::reconnect))).await;
        }
        if let Some(load) = &load {
            load.resume();
            load.wait_for_answers(case.answers, TIMEOUT).await;
        }
        let Instance { running, proxy } = instances.remove(0);
        let stop = async {
            let started = Instant::now();
            soon(running.stop()).await;
            started.elapsed()
        };
        longest = longest.max(match load {
            Some(_) => stop.await,
            None => stop_among_requests(&nats, stop, trip, &mut random, &mut around).await,
        });
        drop(proxy);
    }
    let tally = match load {
        Some(load) => {
            load.wait_for_answers(case.answers, TIMEOUT).await;
            load.finish().await
        }
        None => around,
    };
    let share = 100.0 * tally.answered as f64 / tally.offered as f64;
    let name = format!("{}, RTT {} ms", case.name, trip.as_millis());
    let counts = format!(
        "{} lost of {}{}, {share:.2} % answered, {rounds} stops of ≤ {} ms",
        tally.lost(),
        grouped(tally.offered),
        tally.losses(),
        longest.as_millis(),
    );
    Row::new(name, "0 lost, ≥ 99 % answered", tally.lost() == 0 && share >= 99.0, counts)
}

fn start_load(nats: &async_nats::Client, rate: u32, twenty_routes: bool, random: fastrand::Rng) -> Load {
    let (nats, random) = (nats.clone(), std::sync::Mutex::new(random));
    Load::start(rate, TIMEOUT, move |_| {
        let mut random = random.lock().expect("nobody panics with it");
        // Of twenty routes two are busy, four are slow, and the others get few requests.
        let (route, millis) = match random.u8(0..100) {
            _ if !twenty_routes => (0, WORK),
            0..80 => (random.u8(0..2), WORK),
            80..90 => (random.u8(2..6), SLOW_WORK),
            _ => (random.u8(6..20), WORK),
        };
        let nats = nats.clone();
        async move { request(&nats, format!("roll.{route:02}"), Bytes::from(millis.to_string()), TIMEOUT).await }
    })
}

/// Shuts down amid requests at random moments, so that some requests cross the UNSUB.
async fn stop_among_requests(
    nats: &async_nats::Client,
    stop: impl Future<Output = Duration>,
    trip: Duration,
    random: &mut fastrand::Rng,
    tally: &mut Tally,
) -> Duration {
    let before = trip + Duration::from_millis(2);
    let window = before + trip * 2 + Duration::from_millis(5);
    let requests = join_all((0..ROUND_THE_STOP).map(|_| {
        let wait = window.mul_f64(random.f64());
        async move {
            tokio::time::sleep(wait).await;
            let started = Instant::now();
            let ended: Ended = request(nats, "roll.00".to_owned(), Bytes::from_static(b"1"), TIMEOUT).await;
            (ended, started.elapsed())
        }
    }));
    let stop = async {
        tokio::time::sleep(before).await;
        stop.await
    };
    let (ended, took) = futures::join!(requests, stop);
    for (ended, took) in ended {
        tally.offered += 1;
        tally.note(ended, took, TIMEOUT);
    }
    took
}
