//! Memory that calls leave behind in their caller, and requests in their service.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, NatsConfig};

use super::Options;
use super::load::{Ended, call};
use super::report::Row;
use super::stage::{grouped, resident_kb, runtime, soon};

const TIMEOUT: Duration = Duration::from_millis(100);
const CALLS_IN_FLIGHT: u64 = 2_000;
const REQUESTS_IN_FLIGHT: u64 = 64;
/// Maximum growth after 200,000 timed-out calls, in kB; async-nats alone keeps 88 MB.
const CALLS_LIMIT_KB: u64 = 4 * 1024;
/// Growth that counts as flat, in kB: the noise of the allocator.
const FLAT_KB: u64 = 1024;

#[message_pattern("memory.echo")]
async fn echo(Payload(text): Payload<String>) -> String {
    text
}

pub(super) fn run(options: Options) -> Vec<Row> {
    let runtime = runtime(2);
    let server = crate::server_with(|builder| builder.jetstream(false));
    runtime.block_on(async { vec![timed_out_calls(&server, options).await, many_requests(&server, options).await] })
}

async fn timed_out_calls(server: &NatsServer, options: Options) -> Row {
    let count = options.pick(200_000, 20_000);
    let deaf = async_nats::connect(server.url()).await.expect("a connection");
    let mut heard = deaf.subscribe("memory.deaf").await.expect("a subscription");
    deaf.flush().await.expect("the server has it");
    let listening = tokio::spawn(async move { while heard.next().await.is_some() {} });
    let client = soon(Client::connect(&NatsConfig::new(server.url()))).await.expect("a client").timeout(TIMEOUT);
    // The first subscription, buffers and the allocator's arenas do not count.
    repeat(count / 5, CALLS_IN_FLIGHT, &client, "memory.deaf").await;
    let before = resident_kb();
    let ended = repeat(count, CALLS_IN_FLIGHT, &client, "memory.deaf").await;
    let growth = resident_kb().saturating_sub(before);
    listening.abort();
    let counts =
        format!("grew by {} kB over {} calls, {} timed out", grouped(growth), grouped(count), grouped(ended.1));
    Row::new("calls that time out", "< 4 MB, all timed out", growth < CALLS_LIMIT_KB && ended.1 == count, counts)
}

async fn many_requests(server: &NatsServer, options: Options) -> Row {
    let count: u64 = options.pick(1_000_000, 50_000);
    let service = Service::new("memory", "1.0.0").handlers(handlers![echo]);
    let running = soon(service.start(NatsConfig::new(server.url()))).await.expect("a service");
    let client = soon(Client::connect(&NatsConfig::new(server.url()))).await.expect("a client");
    repeat(count / 5, REQUESTS_IN_FLIGHT, &client, "memory.echo").await;
    let before = resident_kb();
    let ended = repeat(count, REQUESTS_IN_FLIGHT, &client, "memory.echo").await;
    let growth = resident_kb().saturating_sub(before);
    soon(running.stop()).await;
    let counts = format!(
        "grew by {} kB to {} kB over {} requests, {} answered",
        grouped(growth),
        grouped(resident_kb()),
        grouped(count),
        grouped(ended.0)
    );
    Row::new("requests, caller and service", "flat: < 1 MB, all answered", growth < FLAT_KB && ended.0 == count, counts)
}

/// Makes `count` calls, `in_flight` at a time; returns how many got a reply, and how many timed out.
async fn repeat(count: u64, in_flight: u64, client: &Client, subject: &str) -> (u64, u64) {
    let left = AtomicU64::new(count);
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    let callers = (0..in_flight).map(|_| async {
        let (mut answered, mut timed_out) = (0, 0);
        while take() {
            match call(client, subject, &"hello").await {
                Ended::Answered => answered += 1,
                Ended::TimedOut => timed_out += 1,
                _ => {}
            }
        }
        (answered, timed_out)
    });
    let ended = join_all(callers).await;
    ended.into_iter().fold((0, 0), |sum, ended| (sum.0 + ended.0, sum.1 + ended.1))
}
