use nats_rpc::prelude::*;

#[event_pattern("users.new*")]
async fn created() {}

fn main() {}
