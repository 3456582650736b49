use nats_rpc::prelude::*;

#[message_pattern("ping")]
#[use_guards()]
async fn ping() {}

fn main() {}
