use nats_rpc::prelude::*;

#[message_pattern("echo")]
async fn echo(#[cfg(all())] Payload(text): Payload<String>) -> String {
    text
}

fn main() {}
