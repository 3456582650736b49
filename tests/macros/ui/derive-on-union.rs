use nats_rpc::IntoRpcError;

#[derive(IntoRpcError)]
union Unknown {
    _id: u64,
}

fn main() {}
