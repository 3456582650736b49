use nats_rpc::prelude::*;

#[message_pattern("ping")]
struct Ping;

fn main() {}
