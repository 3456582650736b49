use nats_rpc::prelude::*;

#[message_pattern("users.{user-id}")]
async fn get_user(Param(id): Param<u64>) -> u64 {
    id
}

fn main() {}
