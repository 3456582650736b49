use nats_rpc::prelude::*;

struct Profile {
    _name: String,
}

#[message_pattern("users.profile")]
async fn profile() -> Profile {
    Profile { _name: String::new() }
}

fn main() {}
