use nats_rpc::prelude::*;

#[message_pattern("users.{id")]
async fn get_user(Param(id): Param<u64>) -> u64 {
    id
}

fn main() {}
