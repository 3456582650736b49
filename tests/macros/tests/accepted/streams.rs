//! Streams in every form that a handler can return.

use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use nats_rpc::prelude::*;

#[derive(Debug, nats_rpc::IntoRpcError)]
enum Failed {
    #[rpc(conflict)]
    Taken,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("taken")
    }
}

impl std::error::Error for Failed {}

#[message_pattern("plain")]
async fn plain() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter([Ok(1)]))
}

#[message_pattern("captures.nothing")]
async fn captures_nothing(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>> + use<>> {
    Streaming::new(stream::iter((0..last).map(Ok)))
}

#[message_pattern("fallible")]
async fn fallible(
    State(numbers): State<Vec<u32>>,
) -> Result<Streaming<impl Stream<Item = Result<u32, Failed>>>, Failed> {
    if numbers.is_empty() {
        return Err(Failed::Taken);
    }
    Ok(Streaming::new(stream::iter(numbers).map(Ok)))
}

#[message_pattern("boxed")]
async fn boxed() -> Streaming<BoxStream<'static, Result<String, Failed>>> {
    Streaming::new(stream::empty().boxed())
}

#[test]
fn handlers_return_every_stream() {
    let _ = handlers![plain, captures_nothing, fallible, boxed];
}
