pub(crate) fn routes() -> Vec<&'static nats_rpc::Route> {
    Vec::new()
}
