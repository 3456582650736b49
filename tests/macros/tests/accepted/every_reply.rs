//! Every return type of a handler, with no argument and with many.
#![deny(warnings, unused_qualifications)]

use nats_rpc::IntoRpcError;
use nats_rpc::prelude::*;

#[derive(Debug, thiserror::Error, IntoRpcError)]
#[error("gone")]
#[rpc(unavailable)]
struct Gone;

type Reply<T> = Result<T, Gone>;

#[message_pattern("unit")]
async fn unit() {}

#[message_pattern("value")]
async fn value() -> &'static str {
    "value"
}

#[message_pattern("tuple")]
async fn tuple() -> (u8, Option<String>) {
    (1, None)
}

#[message_pattern("result")]
async fn result() -> Result<Vec<u8>, RpcError> {
    Ok(Vec::new())
}

#[message_pattern("own.error")]
async fn own_error() -> Reply<()> {
    Err(Gone)
}

#[message_pattern("opaque")]
async fn opaque() -> impl Serialize {
    [1, 2]
}

#[message_pattern("opaque.result")]
async fn opaque_result() -> Result<impl Serialize, RpcError> {
    Ok([1, 2])
}

#[message_pattern("old")]
#[deprecated]
async fn old() {}

#[message_pattern("many.{id}")]
async fn many(
    Param(id): Param<u64>,
    Payload(mut names): Payload<Vec<String>>,
    _: Headers,
    context: Context,
    first: Option<Payload<u8>>,
    second: Option<Payload<u8>>,
) -> Result<(u64, Vec<String>), RpcError> {
    drop((context, first, second));
    names.sort();
    Ok((id, names))
}

#[test]
fn handlers_return_every_reply() {
    let routes = handlers![unit, value, tuple, result, own_error, opaque, opaque_result, old, many];
    assert_eq!(routes.len(), 9);
}
