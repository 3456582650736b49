//! One of three nodes dies or leaves while callers keep calling and events are stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use nats_rpc::{Client, Connection, NatsConfig};

use super::Options;
use super::load::{Load, call};
use super::report::Row;
use super::server_faults::{LateStarts, service};
use super::stage::{grouped, runtime, soon};
use crate::nodes::{ELECTION_LIMIT, Nodes, leader};

const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    LameDuck,
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let runtime = runtime(2);
    // A lame duck takes longer than tests may.
    let faults: &[Fault] = options.pick(&[Fault::Kill, Fault::LameDuck], &[Fault::Kill]);
    runtime.block_on(async {
        let mut nodes = Nodes::start();
        let mut rows = Vec::new();
        for &fault in faults {
            rows.extend(try_fault(&mut nodes, fault, options).await);
        }
        rows
    })
}

async fn try_fault(nodes: &mut Nodes, fault: Fault, options: Options) -> [Row; 2] {
    let anywhere = NatsConfig::new(nodes.urls());
    let jetstream = soon(Connection::open(&anywhere)).await.expect("a connection").jetstream();
    let stored = Stored::open(jetstream).await;
    let leader = leader(&stored.0, Stored::NAME).await;
    // The caller and one instance lose their node, and know only those other nodes that it has announced.
    let lost = NatsConfig::new(nodes.url(&leader));
    let late = LateStarts::default();
    let first = soon(service(&late).start(lost.clone())).await.expect("a service");
    let second = soon(service(&late).start(anywhere)).await.expect("a service");
    let client = soon(Client::connect(&lost)).await.expect("a client");

    let calls = client.timeout(TIMEOUT);
    let load = Load::start(options.pick(250, 100), TIMEOUT + options.grace(), move |_| {
        let client = calls.clone();
        async move { call(&client, "fault.work", &LateStarts::deadline()).await }
    });
    let publishing = stored.publish();
    load.wait_for_answers(options.pick(500, 50), Duration::from_secs(10)).await;
    let began = Instant::now();
    let name = match fault {
        Fault::Kill => "kill -9 of the stream's leader",
        Fault::LameDuck => "lame duck of the stream's leader",
    };
    match fault {
        Fault::Kill => nodes.kill(&leader),
        Fault::LameDuck => nodes.retire(&leader).await,
    }
    load.wait_for_answers(options.pick(1_000, 100), Duration::from_secs(10)).await;
    let (longest_gap, acknowledged, kept) = publishing.finish().await;
    nodes.restart(&leader);
    load.wait_for_answers(options.pick(500, 50), Duration::from_secs(10)).await;
    let tally = load.finish().await;
    soon(first.stop()).await;
    soon(second.stop()).await;

    let since = |moment: Instant| moment.saturating_duration_since(began).as_millis();
    let window =
        tally.trouble.map_or("none".to_owned(), |(first, last)| format!("+{} to +{} ms", since(first), since(last)));
    let calls = format!(
        "{} of {} answered{}, error window {window}, {} past the deadline, {}",
        grouped(tally.answered),
        grouped(tally.offered),
        tally.losses(),
        tally.late,
        late.told(),
    );
    let events = format!(
        "{} acknowledged, {} kept, longest gap {} ms",
        grouped(acknowledged),
        grouped(kept),
        longest_gap.as_millis()
    );
    [
        Row::new(
            format!("{name}: calls"),
            "0 past the deadline, 0 late starts, some answered",
            tally.late == 0 && late.count() == 0 && tally.answered > tally.lost(),
            calls,
        ),
        Row::new(format!("{name}: R3 stream"), "0 acknowledged lost", kept >= acknowledged, events),
    ]
}

/// A stream with replicas on all three nodes.
struct Stored(jetstream::Context);

impl Stored {
    const NAME: &'static str = "EVENTS";

    async fn open(jetstream: jetstream::Context) -> Self {
        let config = jetstream::stream::Config {
            name: Self::NAME.to_owned(),
            subjects: vec!["events.>".to_owned()],
            num_replicas: 3,
            ..Default::default()
        };
        // The cluster may still be electing the leader that creates streams.
        let began = Instant::now();
        while let Err(error) = jetstream.get_or_create_stream(config.clone()).await {
            assert!(began.elapsed() < ELECTION_LIMIT, "no stream on three nodes: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self(jetstream)
    }

    fn publish(self) -> Publishing {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(publish(self.0.clone(), stop.clone()));
        Publishing { jetstream: self.0, stop, task }
    }
}

struct Publishing {
    jetstream: jetstream::Context,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(Duration, u64)>,
}

impl Publishing {
    /// Returns the longest time without an acknowledgement, the number of acknowledgements, and the number of further
    /// messages in the stream.
    async fn finish(self) -> (Duration, u64, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let (gap, acknowledged) = soon(self.task).await.expect("the publisher does not panic");
        let stream = self.jetstream.get_stream(Stored::NAME).await.expect("the stream is there");
        let kept = stream.cached_info().state.messages;
        stream.purge().await.expect("it can be emptied");
        (gap, acknowledged, kept)
    }
}

/// Publishes events one by one, each with an id and retries until its acknowledgement, until a stop is requested.
async fn publish(jetstream: jetstream::Context, stop: Arc<AtomicBool>) -> (Duration, u64) {
    let (mut longest, mut acknowledged) = (Duration::ZERO, 0_u64);
    let mut last = Instant::now();
    let run = nats_id();
    while !stop.load(Ordering::SeqCst) {
        let id = format!("{run}-{acknowledged}");
        let began = Instant::now();
        loop {
            let message = jetstream::message::PublishMessage::build().payload("e".into()).message_id(&id);
            let stored = async { jetstream.send_publish("events.e", message).await?.await };
            if matches!(tokio::time::timeout(TIMEOUT, stored).await, Ok(Ok(_))) {
                break;
            }
            assert!(began.elapsed() < ELECTION_LIMIT, "the stream does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        acknowledged += 1;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    (longest, acknowledged)
}

/// Returns an id that distinguishes this run's events from those of the previous run, which the stream still
/// remembers.
fn nats_id() -> u64 {
    super::stage::now_ms()
}
