use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
#[error("no such user")]
#[rpc(not_found, message = "no user {0}")]
struct Unknown(u64);

fn main() {}
