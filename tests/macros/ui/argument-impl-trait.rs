use nats_rpc::prelude::*;

#[message_pattern("echo")]
async fn echo(value: impl FromRequest) {
    drop(value);
}

fn main() {}
