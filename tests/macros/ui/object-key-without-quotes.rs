use nats_rpc::prelude::*;

#[message_pattern({ cmd: "sum" })]
async fn sum() {}

fn main() {}
