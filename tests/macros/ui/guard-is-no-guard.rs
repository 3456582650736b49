use nats_rpc::prelude::*;

struct NoGuard;

#[message_pattern("users.get")]
#[use_guards(NoGuard)]
async fn get_user() {}

fn main() {}
