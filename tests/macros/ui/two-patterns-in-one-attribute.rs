use nats_rpc::prelude::*;

#[message_pattern("ping", "pong")]
async fn ping() {}

fn main() {}
