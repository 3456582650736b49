use nats_rpc::prelude::*;

#[message_pattern("ping", queue = pingers)]
async fn ping() {}

fn main() {}
