use nats_rpc::prelude::*;

struct Sum {
    a: i64,
    b: i64,
}

#[message_pattern("math.sum")]
async fn sum(Payload(Sum { a, b }): Payload<Sum>) -> i64 {
    a + b
}

fn main() {}
