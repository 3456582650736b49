use nats_rpc::prelude::*;

#[message_pattern("ping", queu = "pingers")]
async fn ping() {}

fn main() {}
