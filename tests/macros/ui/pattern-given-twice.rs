use nats_rpc::prelude::*;

#[message_pattern("users.{id}")]
#[message_pattern("users.{name}")]
async fn get_user() {}

fn main() {}
