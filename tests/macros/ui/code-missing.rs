use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
enum UserError {
    #[error("no such user")]
    #[rpc(not_found)]
    Unknown,
    #[error("name taken")]
    Taken,
}

fn main() {}
