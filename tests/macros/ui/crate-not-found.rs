use nats_rpc::prelude::*;

#[message_pattern("ping", crate = "::no_such_crate")]
async fn ping() {}

fn main() {}
