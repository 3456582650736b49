use nats_rpc::prelude::*;

#[message_pattern({"cmd": "get user"})]
async fn get_user() {}

fn main() {}
