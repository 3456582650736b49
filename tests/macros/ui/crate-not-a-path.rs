use nats_rpc::prelude::*;

#[message_pattern("ping", crate = nats_rpc)]
async fn ping() {}

fn main() {}
