use nats_rpc::prelude::*;

struct Profile {
    _name: String,
}

#[message_pattern("users.profile")]
async fn profile() -> Result<Profile, RpcError> {
    Ok(Profile { _name: String::new() })
}

fn main() {}
