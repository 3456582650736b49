use nats_rpc::prelude::*;

#[message_pattern("users.{id}.posts.{id}")]
async fn get_post(Param(ids): Param<(u64, u64)>) -> (u64, u64) {
    ids
}

fn main() {}
