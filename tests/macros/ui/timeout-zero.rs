use nats_rpc::prelude::*;

#[message_pattern("ping", timeout_ms = 0)]
async fn ping() {}

fn main() {}
