use nats_rpc::prelude::*;

#[message_pattern({"größe": 1})]
async fn size() {}

fn main() {}
