use nats_rpc::prelude::*;

#[message_pattern("ping", run_to_completion = true)]
async fn ping() {}

fn main() {}
