use nats_rpc::prelude::*;

#[message_pattern("ping")]
async fn main() {}
