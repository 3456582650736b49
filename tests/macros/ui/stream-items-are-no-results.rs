use futures::{Stream, stream};
use nats_rpc::prelude::*;

#[message_pattern("numbers")]
async fn numbers() -> Result<Streaming<impl Stream<Item = u32>>, RpcError> {
    Ok(Streaming::new(stream::iter([1, 2, 3])))
}

fn main() {}
