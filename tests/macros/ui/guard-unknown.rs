use nats_rpc::prelude::*;

#[message_pattern("users.get")]
#[use_guards(NoSuchGuard)]
async fn get_user() {}

fn main() {}
