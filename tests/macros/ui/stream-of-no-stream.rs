use nats_rpc::prelude::*;

#[message_pattern("numbers")]
async fn numbers() -> Streaming<Vec<u32>> {
    Streaming::new(vec![1, 2, 3])
}

fn main() {}
