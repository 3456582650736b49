use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
enum UserError {
    #[error("no such user")]
    #[rpc(transparent)]
    Unknown(u64, String),
}

fn main() {}
