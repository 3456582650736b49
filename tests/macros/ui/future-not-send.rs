use std::rc::Rc;

use nats_rpc::prelude::*;

#[message_pattern("count")]
async fn count() -> u64 {
    let counter = Rc::new(1);
    std::future::ready(()).await;
    *counter
}

fn main() {}
