use nats_rpc::prelude::*;

#[message_pattern("get user")]
async fn get_user() {}

fn routes() {
    handlers![get_user];
}

fn main() {}
