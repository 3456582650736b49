use nats_rpc::prelude::*;

struct Ping;

fn routes() {
    handlers![Ping];
}

fn main() {}
