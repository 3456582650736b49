use nats_rpc::prelude::*;

#[public]
async fn ping() {}

fn main() {}
