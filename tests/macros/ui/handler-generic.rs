use nats_rpc::prelude::*;

#[message_pattern("echo")]
async fn echo<T: Serialize>(Payload(value): Payload<T>) -> T {
    value
}

fn main() {}
