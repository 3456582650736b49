use futures::{Stream, stream};
use nats_rpc::prelude::*;

#[message_pattern("user.numbers")]
#[event_pattern("user.created")]
async fn numbers() -> Result<Streaming<impl Stream<Item = Result<u32, RpcError>>>, RpcError> {
    Ok(Streaming::new(stream::empty()))
}

fn main() {}
