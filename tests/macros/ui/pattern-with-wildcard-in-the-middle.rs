use nats_rpc::prelude::*;

#[event_pattern("users.>.created")]
async fn created() {}

fn main() {}
