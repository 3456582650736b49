use nats_rpc::prelude::*;

#[message_pattern({"version": 1.5})]
async fn version() {}

fn main() {}
