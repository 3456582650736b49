use nats_rpc::prelude::*;

#[derive(Deserialize)]
struct Sum {
    a: i64,
    b: i64,
}

#[message_pattern("math.sum")]
async fn sum(query: Sum) -> i64 {
    query.a + query.b
}

fn main() {}
