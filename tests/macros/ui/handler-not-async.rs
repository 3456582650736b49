use nats_rpc::prelude::*;

#[message_pattern("ping")]
fn ping() {}

fn main() {}
