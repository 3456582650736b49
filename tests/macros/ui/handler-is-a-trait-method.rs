use nats_rpc::prelude::*;

trait Users {
    #[message_pattern("users.count")]
    async fn count() -> u64;
}

fn main() {}
