use nats_rpc::prelude::*;

#[message_pattern("ping", timeout_ms)]
async fn ping() {}

fn main() {}
