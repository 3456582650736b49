//! Errors as NestJS writes them: an `RpcException` is sent unchanged, any other error hides its text.

use nats_rpc::Route;
use nats_rpc::prelude::*;
use serde_json::{Value, json};

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![fail_rpc, fail_error, fail_http, fail_throw_value]
}

/// `RpcException('text')`.
pub(crate) fn exception(text: &str) -> RpcError {
    RpcError::new(Code::Internal, "an RpcException").with_body(json!({ "status": "error", "message": text }))
}

/// The reply of NestJS to any other error.
pub(crate) fn hidden() -> RpcError {
    exception("Internal server error")
}

#[message_pattern("fail_rpc")]
async fn fail_rpc(Payload(data): Payload<Value>) -> Result<(), RpcError> {
    if data["kind"] != "object" {
        return Err(exception("rpc string failure"));
    }
    let body = json!({ "code": "E_NOT_FOUND", "status": 404, "message": "user not found", "details": { "id": 7 } });
    Err(RpcError::not_found("user not found").with_body(body))
}

#[message_pattern("fail_error")]
async fn fail_error() -> Result<(), RpcError> {
    Err(hidden().with_source("boom secret detail"))
}

#[message_pattern("fail_http")]
async fn fail_http() -> Result<(), RpcError> {
    Err(hidden().with_source("an HTTP exception: no way"))
}

#[message_pattern("fail_throw_value")]
async fn fail_throw_value() -> Result<(), RpcError> {
    Err(hidden().with_source("just a string"))
}
