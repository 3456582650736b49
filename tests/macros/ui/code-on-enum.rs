use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
#[rpc(not_found)]
enum UserError {
    #[error("no such user")]
    Unknown,
}

fn main() {}
