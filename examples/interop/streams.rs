//! Observables: a NestJS caller receives a `Streaming` as an observable.

use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use nats_rpc::Route;
use nats_rpc::prelude::*;
use serde_json::{Value, json};

use super::errors::exception;

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![stream_of, of3, empty_obs, promise_of_obs, fail_observable, never]
}

/// The number of items, alone or in an object with more fields.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wanted {
    Items(u64),
    Slowly {
        n: u64,
        #[serde(default)]
        ms: u64,
        fail_at: Option<u64>,
    },
}

#[message_pattern("stream")]
async fn stream_of(Payload(wanted): Payload<Wanted>) -> Streaming<impl Stream<Item = Result<Value, RpcError>>> {
    let (n, ms, fail_at) = match wanted {
        Wanted::Items(n) => (n, 0, None),
        Wanted::Slowly { n, ms, fail_at } => (n, ms, fail_at),
    };
    Streaming::new(stream::iter(0..n).then(move |i| async move {
        if fail_at == Some(i) {
            return Err(exception(&format!("failed at {i}")));
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(json!({ "i": i }))
    }))
}

#[message_pattern("of3")]
async fn of3() -> Streaming<impl Stream<Item = Result<u8, RpcError>>> {
    Streaming::new(stream::iter([1, 2, 3].map(Ok)))
}

#[message_pattern("empty_obs")]
async fn empty_obs() -> Streaming<impl Stream<Item = Result<(), RpcError>>> {
    Streaming::new(stream::empty())
}

#[message_pattern("promise_of_obs")]
async fn promise_of_obs() -> Streaming<impl Stream<Item = Result<&'static str, RpcError>>> {
    Streaming::new(stream::iter(["a", "b"].map(Ok)))
}

#[message_pattern("fail_observable")]
async fn fail_observable() -> Streaming<impl Stream<Item = Result<(), RpcError>>> {
    Streaming::new(stream::iter([Err(exception("from observable"))]))
}

/// A NestJS caller would wait forever; the handler's timeout ends the stream.
#[message_pattern("never", timeout_ms = 1_000)]
async fn never() -> Streaming<impl Stream<Item = Result<(), RpcError>>> {
    Streaming::new(stream::pending())
}
