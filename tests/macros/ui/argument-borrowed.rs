use nats_rpc::prelude::*;

#[message_pattern("echo")]
async fn echo(text: &str) -> String {
    text.to_owned()
}

fn main() {}
