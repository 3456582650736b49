use nats_rpc::prelude::*;

#[message_pattern("ping", queue = "a", queue = "b")]
async fn ping() {}

fn main() {}
