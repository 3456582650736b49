use nats_rpc::prelude::*;

#[message_pattern("users.get")]
#[use_guards(String::from("users:read"))]
async fn get_user() {}

fn main() {}
