use nats_rpc::prelude::*;

#[message_pattern("users.get")]
#[use_guards(RequireScope::new("users:read"))]
#[public]
async fn get_user() {}

fn main() {}
