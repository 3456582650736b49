use nats_rpc::prelude::*;

const SUBJECT: &str = "ping";

#[message_pattern(SUBJECT)]
async fn ping() {}

fn main() {}
