use nats_rpc::prelude::*;

#[use_guards(RequireScope::new("users:read"))]
async fn get_user() {}

fn main() {}
