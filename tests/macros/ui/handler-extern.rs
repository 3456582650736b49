use nats_rpc::prelude::*;

#[message_pattern("ping")]
async extern "C" fn ping() {}

fn main() {}
