use nats_rpc::IntoRpcError;

#[derive(Debug, thiserror::Error, IntoRpcError)]
enum UserError {
    #[error(transparent)]
    #[rpc(transparent)]
    Io(std::io::Error),
}

fn main() {}
