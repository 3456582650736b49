use nats_rpc::prelude::*;

#[message_pattern("users.count")]
#[use_guards(RequireScope::new("users:read"))]
async fn count(Payload(name): Payload<String>, limit: u64, context: Context) -> u64 {
    drop((name, context));
    limit
}

fn main() {}
