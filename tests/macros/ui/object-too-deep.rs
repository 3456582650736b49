use nats_rpc::prelude::*;

#[message_pattern({"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}})]
async fn deep() {}

fn main() {}
