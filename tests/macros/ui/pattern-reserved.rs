use nats_rpc::prelude::*;

#[message_pattern("$SRV.PING")]
async fn ping() {}

fn main() {}
