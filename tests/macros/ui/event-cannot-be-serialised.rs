use nats_rpc::prelude::*;

struct Done;

#[event_pattern("user.created")]
async fn created() -> Done {
    Done
}

fn main() {}
