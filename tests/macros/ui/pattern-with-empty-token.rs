use nats_rpc::prelude::*;

#[message_pattern("users..get")]
async fn get_user() {}

fn main() {}
