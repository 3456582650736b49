use nats_rpc::prelude::*;

async fn ping() {}

fn routes() {
    handlers![ping];
}

fn main() {}
