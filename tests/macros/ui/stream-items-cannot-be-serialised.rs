use futures::{Stream, stream};
use nats_rpc::prelude::*;

struct Profile {
    _name: String,
}

#[message_pattern("users.all")]
async fn all() -> Streaming<impl Stream<Item = Result<Profile, RpcError>>> {
    Streaming::new(stream::empty())
}

fn main() {}
