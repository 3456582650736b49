use nats_rpc::IntoRpcError;

#[derive(Debug, IntoRpcError)]
#[rpc(not_found)]
struct Unknown;

fn main() {}
