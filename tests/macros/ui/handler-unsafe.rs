use nats_rpc::prelude::*;

#[message_pattern("ping")]
async unsafe fn ping() {}

fn main() {}
