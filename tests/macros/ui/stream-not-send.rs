use std::rc::Rc;

use futures::{Stream, stream};
use nats_rpc::prelude::*;

#[message_pattern("numbers")]
async fn numbers() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let count = Rc::new(3);
    Streaming::new(stream::iter((0..3).map(move |number| Ok(number * *count))))
}

fn main() {}
