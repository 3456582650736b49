use futures::{Stream, stream};
use nats_rpc::prelude::*;

#[event_pattern("user.created")]
async fn created() -> Result<Streaming<impl Stream<Item = Result<u32, RpcError>>>, RpcError> {
    Ok(Streaming::new(stream::empty()))
}

fn main() {}
