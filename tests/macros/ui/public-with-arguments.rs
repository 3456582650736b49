use nats_rpc::prelude::*;

#[message_pattern("ping")]
#[public(everybody)]
async fn ping() {}

fn main() {}
