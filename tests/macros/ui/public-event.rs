use nats_rpc::prelude::*;

#[event_pattern("users.created")]
#[public]
async fn created() {}

fn main() {}
