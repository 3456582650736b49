//! Answers of many items: their order, their ends, and what becomes of them when a side goes away.

mod accounts;
mod by_hand;
mod flow;
mod gone;
mod items;
mod nest;
mod protocol;
mod versions;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Limits, ServiceHandle};
use nats_rpc_tests::{server, server_with};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{PATIENCE, client, code, foreign, nats, request, request_with, soon};

/// What the tests see of the handlers' streams.
#[derive(Clone)]
struct Seen {
    /// Items asked for.
    produced: Arc<AtomicU64>,
    /// Lets one item through each, where a stream is gated.
    gate: Arc<Semaphore>,
    ends: mpsc::UnboundedSender<()>,
}

/// Tells when a stream is dropped.
struct Alive(Seen);

impl Drop for Alive {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.ends.send(());
    }
}

#[message_pattern("stream.count")]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

#[message_pattern("stream.refused")]
async fn refused() -> Result<Streaming<impl Stream<Item = Result<u32, RpcError>>>, RpcError> {
    if true {
        return Err(RpcError::forbidden("no numbers for you"));
    }
    Ok(Streaming::new(stream::empty()))
}

#[message_pattern("stream.fails")]
async fn fails() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let error = RpcError::not_found("there is no 3").with_details(json!({ "number": 3 }));
    Streaming::new(stream::iter([Ok(1), Ok(2), Err(error), Ok(4)]))
}

#[message_pattern("stream.endless")]
async fn endless(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let alive = Alive(seen);
    Streaming::new(stream::repeat(()).map(move |()| Ok(alive.0.produced.fetch_add(1, Ordering::SeqCst) + 1)))
}

/// Each item waits for a permit; the first number is sent at once.
#[message_pattern("stream.gated")]
async fn gated(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let gate = seen.gate.clone();
    let alive = Alive(seen);
    Streaming::new(stream::unfold((0, alive, gate), async |(number, alive, gate)| {
        if number > 0 {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        Some((Ok(number), (number + 1, alive, gate)))
    }))
}

#[message_pattern("stream.never")]
async fn never(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let alive = Alive(seen);
    Streaming::new(stream::pending().map(move |number| {
        let _ = &alive;
        Ok(number)
    }))
}

#[message_pattern("stream.limited", timeout_ms = 300)]
async fn limited(seen: State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    gated(seen).await
}

/// What runs to completion all the same ends its stream in time.
#[message_pattern("stream.thorough", timeout_ms = 300, run_to_completion)]
async fn thorough(seen: State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    gated(seen).await
}

/// Items of 4 kB, as many as are taken.
#[message_pattern("stream.bulky")]
async fn bulky(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<String, RpcError>>> {
    Streaming::new(stream::repeat_with(move || Ok(format!("{:4096}", seen.produced.fetch_add(1, Ordering::SeqCst)))))
}

#[message_pattern("stream.panics")]
async fn panics() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter(1..).map(|number| if number < 3 { Ok(number) } else { panic!("of the stream") }))
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("of a stream that is dropped");
    }
}

#[message_pattern("stream.bomb")]
async fn bomb() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let bomb = Bomb;
    Streaming::new(stream::iter(1..=2).map(move |number| {
        let _ = &bomb;
        Ok(number)
    }))
}

#[message_pattern("stream.sizes")]
async fn sizes(Payload(sizes): Payload<Vec<usize>>) -> Streaming<impl Stream<Item = Result<String, RpcError>>> {
    Streaming::new(stream::iter(sizes).map(|size| Ok("x".repeat(size))))
}

#[message_pattern("stream.unary")]
async fn unary() -> u32 {
    7
}

struct Stage {
    server: NatsServer,
    service: ServiceHandle,
    client: Client,
    seen: Seen,
    ends: mpsc::UnboundedReceiver<()>,
}

async fn stage() -> Stage {
    stage_with(server(), Limits::default()).await
}

async fn stage_with(server: NatsServer, limits: Limits) -> Stage {
    let (ends, ended) = mpsc::unbounded_channel();
    let seen = Seen { produced: Arc::default(), gate: Arc::new(Semaphore::new(0)), ends };
    let service = Service::new("stream", "1.0.0")
        .handlers(handlers![
            count, refused, fails, endless, gated, never, limited, thorough, bulky, panics, bomb, sizes, unary
        ])
        .provide(seen.clone())
        .limits(limits)
        .start(nats(&server))
        .await
        .unwrap();
    let client = client(&server).await.stream_timeout(PATIENCE * 2).item_timeout(PATIENCE);
    Stage { server, service, client, seen, ends: ended }
}

/// Takes all items up to the end, and the error that was the end.
async fn all<T: serde::de::DeserializeOwned>(mut items: nats_rpc::ResponseStream<T>) -> (Vec<T>, Option<CallError>) {
    let mut taken = Vec::new();
    while let Some(item) = soon(items.next()).await {
        match item {
            Ok(item) => taken.push(item),
            Err(error) => {
                assert!(soon(items.next()).await.is_none(), "an error is the last item");
                return (taken, Some(error));
            }
        }
    }
    (taken, None)
}

fn answered(error: Option<CallError>) -> u16 {
    match error {
        Some(CallError::Remote(error)) => error.status(),
        other => panic!("it should be an answer: {other:?}"),
    }
}
