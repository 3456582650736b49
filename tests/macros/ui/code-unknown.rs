use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
#[error("no such user")]
#[rpc(notfound)]
struct Unknown;

fn main() {}
