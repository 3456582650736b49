use nats_rpc::prelude::*;

struct Users;

#[message_pattern("users.count")]
async fn count(State(_users): State<Users>) -> u64 {
    0
}

fn main() {}
