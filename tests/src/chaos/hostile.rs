//! Bytes that no client would send, from a publisher that speaks raw TCP.

mod corpus;
mod publisher;

use std::time::Duration;

use bytes::Bytes;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, NatsConfig, ServiceHandle};

use self::corpus::Poison;
use self::publisher::Publisher;
use super::Options;
use super::load::{Ended, Load, Tally, call, request};
use super::report::Row;
use super::stage::{runtime, soon, until};

/// Maximum time until the service replies again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(2);
/// Maximum time for all waves of one poison.
const CASE_LIMIT: Duration = Duration::from_secs(60);
/// Number of times that each poison is sent.
const WAVES: u32 = 3;
/// Timeout of one probe whether the service replies.
const PROBE: Duration = Duration::from_millis(100);

#[message_pattern("victim.ping")]
async fn ping() -> &'static str {
    "pong"
}

#[message_pattern("victim.any.*")]
async fn any(Payload(value): Payload<serde_json::Value>) -> serde_json::Value {
    value
}

#[event_pattern("victim.event")]
async fn event(Payload(_): Payload<serde_json::Value>) {}

#[message_pattern("bystander.ping")]
async fn bystander() -> &'static str {
    "pong"
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let runtime = runtime(2);
    let server = crate::server_with(|builder| builder.jetstream(false));
    let waves = options.pick(WAVES, 1);
    runtime.block_on(async {
        let service = Service::new("bystander", "1.0.0").handlers(handlers![bystander]);
        let others = soon(service.start(NatsConfig::new(server.url()))).await.expect("a bystander");
        let nats = async_nats::connect(server.url()).await.expect("a connection");
        let asking = nats.clone();
        let load = Load::start(100, Duration::from_secs(2), move |_| {
            let nats = asking.clone();
            async move { request(&nats, "bystander.ping".to_owned(), Bytes::new(), Duration::from_secs(2)).await }
        });
        let mut rows = Vec::new();
        for poison in corpus::all() {
            rows.push(ends(poison.name, Box::pin(give(&poison, &server, &nats, waves))).await);
        }
        rows.push(ends("an answer with a bare CR", Box::pin(answer_with_poison(&server, waves))).await);
        let tally = load.finish().await;
        rows.push(unharmed(&tally));
        soon(others.stop()).await;
        rows
    })
}

/// Counts a case that does not end as failed.
async fn ends(case: &'static str, row: impl Future<Output = Row>) -> Row {
    let row = tokio::time::timeout(CASE_LIMIT, row).await;
    row.unwrap_or_else(|_| Row::new(case, "ends", false, format!("no end within {CASE_LIMIT:?}")))
}

fn unharmed(tally: &Tally) -> Row {
    let counts = format!("{} lost of {}{}", tally.lost(), tally.offered, tally.losses());
    Row::new("another service meanwhile", "0 lost", tally.lost() == 0 && tally.answered > 0, counts)
}

/// Sends one poison to a service of its own, repeatedly.
async fn give(poison: &Poison, server: &NatsServer, nats: &async_nats::Client, waves: u32) -> Row {
    let victim = start_victim(server).await;
    let mut slowest = Some(Duration::ZERO);
    let mut refused = 0;
    for _ in 0..waves {
        let publisher = Publisher::connect(server.port()).await.expect("a connection");
        let accepted = publisher.send(&poison.bytes).await;
        refused += u32::from(!accepted);
        // The server has forwarded the poison, so this probe reaches the victim after it.
        let again = until(Duration::from_secs(5), async || answers(nats).await).await;
        slowest = slowest.zip(again).map(|(slowest, again)| slowest.max(again));
        if slowest.is_none() {
            break;
        }
    }
    // A dead victim cannot shut down gracefully.
    drop(victim);
    let counts = match slowest {
        Some(slowest) => format!("answers again after {} ms", slowest.as_millis()),
        None => "never answers again".to_owned(),
    };
    let by_server = if refused > 0 { ", refused by nats-server" } else { "" };
    let passed = slowest.is_some_and(|slowest| slowest <= RECOVERY_LIMIT);
    Row::new(poison.name, "answers again within 2 s", passed, counts + by_server)
}

/// Checks that a service whose replies are poison does not break its caller.
async fn answer_with_poison(server: &NatsServer, waves: u32) -> Row {
    let config = NatsConfig::new(server.url());
    let client = soon(Client::connect(&config)).await.expect("a client").timeout(RECOVERY_LIMIT);
    let mut slowest = Some(Duration::ZERO);
    let mut ended = Ended::Answered;
    for _ in 0..waves {
        let mut publisher = Publisher::connect(server.port()).await.expect("a connection");
        // Before the call, which would otherwise get no responders, and leave the publisher waiting.
        soon(publisher.subscribe("evil.ping")).await.expect("a subscription");
        let answering = soon(publisher.answer(b"NATS/1.0\r\na: b\rc\r\n\r\n"));
        let (given, poisoned) = futures::join!(answering, soon(call(&client, "evil.ping", &())));
        given.expect("the answer is given");
        ended = poisoned;
        let well = || async { call(&client, "bystander.ping", &()).await == Ended::Answered };
        let again = until(Duration::from_secs(5), well).await;
        slowest = slowest.zip(again).map(|(slowest, again)| slowest.max(again));
    }
    let counts = match slowest {
        Some(slowest) => format!("its call ends {ended:?}, others are answered after {} ms", slowest.as_millis()),
        None => "no other call is answered".to_owned(),
    };
    let passed = ended != Ended::Answered && slowest.is_some_and(|slowest| slowest <= RECOVERY_LIMIT);
    Row::new("an answer with a bare CR", "the caller calls again within 2 s", passed, counts)
}

async fn start_victim(server: &NatsServer) -> ServiceHandle {
    let service = Service::new("victim", "1.0.0").handlers(handlers![ping, any, event]);
    soon(service.start(NatsConfig::new(server.url()))).await.expect("a victim")
}

async fn answers(nats: &async_nats::Client) -> bool {
    request(nats, "victim.ping".to_owned(), Bytes::new(), PROBE).await == Ended::Answered
}
