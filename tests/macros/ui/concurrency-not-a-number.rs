use nats_rpc::prelude::*;

#[message_pattern("ping", concurrency = "8")]
async fn ping() {}

fn main() {}
