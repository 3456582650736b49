use nats_rpc::prelude::*;

#[message_pattern("ping")]
#[public]
#[public]
async fn ping() {}

fn main() {}
