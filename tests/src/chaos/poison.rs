//! Messages that break a connection of async-nats, repeatedly, next to calls that must succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{HeaderFilter, NatsConfig, ServiceHandle};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::Options;
use super::load::{Load, Tally, request};
use super::report::Row;
use super::stage::{PATIENCE, runtime, soon, until};
use crate::certificates::Authority;

/// Calls per second.
const RATE: u32 = 20;
const TIMEOUT: Duration = Duration::from_secs(2);
const WORK: Duration = Duration::from_millis(5);
/// Interval at which each instance is probed.
const PROBE_EVERY: Duration = Duration::from_millis(5);

/// Besides its own inbox, the service may publish only replies (`allow_responses`), as the shipped services do.
/// Clients without a user name may publish anything.
const USERS: &str = r#"
authorization {
  users: [
    { user: service, password: p, permissions: {
      publish: ["_INBOX_poison.>"], subscribe: ["poison.>", "_INBOX_poison.>", "$SRV.>"], allow_responses: { max: 1, expires: "60s" }
    } }
    { user: stranger, password: p }
  ]
}
no_auth_user: stranger
"#;

#[message_pattern("poison.work")]
async fn work() -> &'static str {
    tokio::time::sleep(WORK).await;
    "done"
}

#[message_pattern("poison.first")]
async fn first() {}

#[message_pattern("poison.second")]
async fn second() {}

/// The load on the service, and the expected outcome.
struct Case {
    filter: HeaderFilter,
    /// Poisonous messages per second.
    poisons: u64,
    /// Minimum number of successful calls of a hundred.
    least: u64,
    expected: &'static str,
}

const fn case(filter: HeaderFilter, poisons: u64, least: u64, expected: &'static str) -> Case {
    Case { filter, poisons, least, expected }
}

/// Cases without and with poison, behind a filter.
const CASES: [Case; 4] = [
    case(HeaderFilter::Auto, 0, 98, "98 % answered"),
    case(HeaderFilter::Auto, 20, 90, "90 % answered"),
    case(HeaderFilter::Auto, 100, 50, "half answered"),
    case(HeaderFilter::Always, 100, 98, "98 % answered"),
];
/// Cases that show the effect without a filter.
const UNFILTERED: [Case; 2] =
    [case(HeaderFilter::Never, 20, 0, "for comparison"), case(HeaderFilter::Never, 100, 0, "for comparison")];
/// Upper bound of the required successes of a hundred, on a machine that is busy with other work.
const BUSY: u64 = 90;

pub(super) fn run(options: Options) -> Vec<Row> {
    // Each connection that dies panics once.
    super::stage::hush_panics_of("invalid header value");
    let lasts = options.pick(Duration::from_secs(10), Duration::from_secs(3));
    let runtime = runtime(2);
    runtime.block_on(async {
        let authority = Authority::new();
        let certificate = authority.server();
        let tls = format!(
            "tls {{ cert_file: {:?}, key_file: {:?} }}\nallow_non_tls: true\n",
            certificate.certificate.display().to_string(),
            certificate.key.display().to_string()
        );
        let plain = crate::server_with(|builder| builder.config(USERS).jetstream(false));
        let encrypted = crate::server_with(|builder| builder.config(tls + USERS).jetstream(false));
        let mut rows = Vec::new();
        for (name, server) in [("plain", &plain), ("TLS", &encrypted)] {
            let nats = NatsConfig::new(server.url()).user("service", "p");
            let nats = if name == "TLS" { nats.root_certificate(authority.path()) } else { nats };
            let compared = options.pick(&UNFILTERED[..], &[]);
            for case in CASES.iter().chain(compared) {
                let case = Case { least: case.least.min(options.pick(case.least, BUSY)), ..*case };
                rows.push(Box::pin(poison(name, server, &nats, &case, lasts)).await);
            }
        }
        rows
    })
}

async fn poison(name: &str, server: &NatsServer, nats: &NatsConfig, case: &Case, lasts: Duration) -> Row {
    let Case { filter, poisons, least, expected } = *case;
    let service = || Service::new("poison", "1.0.0");
    let nats = nats.clone().header_filter(filter);
    let instances = [
        soon(service().handlers(handlers![work, first]).start(nats.clone())).await.expect("an instance"),
        soon(service().handlers(handlers![work, second]).start(nats)).await.expect("an instance"),
    ];
    let caller = async_nats::connect(server.url()).await.expect("a connection");
    let gaps = ["poison.first", "poison.second"].map(|subject| Gaps::watch(caller.clone(), subject));
    let poisoner = Poisoner::start(server.port(), poisons).await;
    let load = Load::start(RATE, TIMEOUT, move |_| {
        let nats = caller.clone();
        async move { request(&nats, "poison.work".to_owned(), Bytes::new(), TIMEOUT).await }
    });
    tokio::time::sleep(lasts).await;
    let tally = load.finish().await;
    let sent = poisoner.stop();
    let gaps = gaps.map(Gaps::stop);
    let well = until(PATIENCE, async || all_serve(&instances).await).await.is_some();
    let counts = counted(&tally, sent, &instances, gaps);
    for instance in instances {
        soon(instance.stop()).await;
    }
    let rate = if poisons == 0 { "no poison".to_owned() } else { format!("{poisons} poisons a second") };
    let filter = format!("{filter:?}").to_lowercase();
    let passed = well && tally.answered * 100 >= tally.offered * least;
    Row::new(format!("{name}, {rate}, filter {filter}"), expected, passed, counts)
}

async fn all_serve(instances: &[ServiceHandle]) -> bool {
    let mut all = true;
    for instance in instances {
        all &= instance.check(TIMEOUT).await.is_ok();
    }
    all
}

fn counted(tally: &Tally, sent: u64, instances: &[ServiceHandle], gaps: [Duration; 2]) -> String {
    let sum = |of: fn(&ServiceHandle) -> u64| instances.iter().map(of).sum::<u64>();
    let share = tally.answered as f64 * 100.0 / tally.offered.max(1) as f64;
    format!(
        "{share:.1} % of {}{}; of {sent} poisons {} ended a connection, {} were replaced; not subscribed for {} and {} ms",
        tally.offered,
        tally.losses(),
        sum(|running| running.connection().generation()),
        sum(|running| running.connection().unreadable_messages()),
        gaps[0].as_millis(),
        gaps[1].as_millis(),
    )
}

/// A publisher of poison over raw TCP.
struct Poisoner {
    task: JoinHandle<()>,
    sent: Arc<AtomicU64>,
}

impl Poisoner {
    async fn start(port: u16, rate: u64) -> Self {
        const GREETING: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
        const POISON: &[u8] = b"HPUB poison.work 20 22\r\nNATS/1.0\r\na: b\rc\r\n\r\n{}\r\n";
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        socket.write_all(GREETING).await.expect("a greeting");
        let sent = Arc::new(AtomicU64::new(0));
        let counted = sent.clone();
        let task = tokio::spawn(async move {
            if rate == 0 {
                return std::future::pending().await;
            }
            let mut beat = interval(Duration::from_secs(1) / u32::try_from(rate).expect("a rate of poisons"));
            loop {
                beat.tick().await;
                socket.write_all(POISON).await.expect("nats-server takes poison");
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { task, sent }
    }

    /// Stops, and returns the number of messages sent.
    fn stop(self) -> u64 {
        self.task.abort();
        self.sent.load(Ordering::Relaxed)
    }
}

/// Times during which one instance had no subscription.
struct Gaps {
    task: JoinHandle<()>,
    missed: Arc<AtomicU64>,
}

impl Gaps {
    fn watch(nats: async_nats::Client, subject: &'static str) -> Self {
        let missed = Arc::new(AtomicU64::new(0));
        let counted = missed.clone();
        let task = tokio::spawn(async move {
            let mut beat = interval(PROBE_EVERY);
            beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                beat.tick().await;
                let (nats, counted) = (nats.clone(), counted.clone());
                // Spawned, because a lost probe must not delay the next one.
                tokio::spawn(async move {
                    let ended = request(&nats, subject.to_owned(), Bytes::new(), TIMEOUT).await;
                    counted.fetch_add(u64::from(ended == super::load::Ended::NoResponders), Ordering::Relaxed);
                });
            }
        });
        Self { task, missed }
    }

    fn stop(self) -> Duration {
        self.task.abort();
        PROBE_EVERY * u32::try_from(self.missed.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }
}
