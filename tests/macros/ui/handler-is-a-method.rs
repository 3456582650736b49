use nats_rpc::prelude::*;

struct Users;

impl Users {
    #[message_pattern("users.count")]
    async fn count(&self) -> u64 {
        0
    }
}

fn main() {}
