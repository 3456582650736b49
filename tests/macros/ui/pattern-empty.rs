use nats_rpc::prelude::*;

#[message_pattern("")]
async fn ping() {}

fn main() {}
