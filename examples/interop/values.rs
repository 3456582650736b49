//! Return values of handlers, and their JSON.

use std::time::Duration;

use nats_rpc::prelude::*;
use nats_rpc::{IntoReply, ReplyKind, Route};
use serde_json::value::RawValue;
use serde_json::{Number, Value, json};

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![
        echo,
        add,
        sum,
        field,
        delay,
        ret_undefined,
        ret_null,
        ret_false,
        ret_bytes,
        ret_buffer,
        ret_record,
        ret_date,
        ret_id,
        ret_big,
        pid
    ]
}

/// A JSON value or JavaScript's `undefined`, for which a NestJS caller completes without a value.
pub(crate) struct Maybe(Option<Box<RawValue>>);

impl IntoReply for Maybe {
    fn write(self, out: &mut Vec<u8>) -> Result<ReplyKind, RpcError> {
        let Some(value) = self.0 else { return ().write(out) };
        out.extend_from_slice(value.get().as_bytes());
        Ok(ReplyKind::Value)
    }
}

#[message_pattern("echo")]
async fn echo(data: Option<Payload<Box<RawValue>>>) -> Maybe {
    Maybe(data.map(|Payload(data)| data))
}

#[derive(Deserialize)]
struct Pair {
    a: Number,
    b: Number,
}

/// Returns JavaScript's sum, except that whole numbers stay exact; `None` if it is infinite, which JSON cannot
/// represent.
fn plus(a: &Number, b: &Number) -> Option<Number> {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => Some(a.saturating_add(b).into()),
        _ => Number::from_f64(a.as_f64()? + b.as_f64()?),
    }
}

#[message_pattern("add")]
async fn add(Payload(Pair { a, b }): Payload<Pair>) -> Option<Number> {
    plus(&a, &b)
}

#[message_pattern("sum")]
async fn sum(Payload(numbers): Payload<Option<Vec<Number>>>) -> Option<Number> {
    numbers.unwrap_or_default().iter().try_fold(Number::from(0), |sum, number| plus(&sum, number))
}

/// `@Payload('name')`, which is undefined if the data is not an object.
#[message_pattern("field")]
async fn field(Payload(data): Payload<Value>) -> Value {
    json!({ "field": data.get("name").cloned().unwrap_or_else(|| "<undefined>".into()) })
}

#[derive(Deserialize)]
struct Delay {
    ms: u64,
}

#[message_pattern("delay")]
async fn delay(Payload(Delay { ms }): Payload<Delay>) -> Value {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    json!({ "slept": ms })
}

#[message_pattern("ret_undefined")]
async fn ret_undefined() {}

#[message_pattern("ret_null")]
async fn ret_null() -> Option<u8> {
    None
}

#[message_pattern("ret_false")]
async fn ret_false() -> bool {
    false
}

/// The JSON that `JSON.stringify` writes for a `Uint8Array`.
#[message_pattern("ret_bytes")]
async fn ret_bytes() -> Value {
    json!({ "0": 0, "1": 1, "2": 255 })
}

#[message_pattern("ret_buffer")]
async fn ret_buffer() -> Value {
    json!({ "type": "Buffer", "data": [0, 1, 255] })
}

/// A record that a NestJS handler returns becomes data, not a record.
#[message_pattern("ret_record")]
async fn ret_record() -> Value {
    json!({ "data": { "x": 1 }, "headers": { "a": "b" } })
}

#[message_pattern("ret_date")]
async fn ret_date() -> Value {
    json!({ "d": "1970-01-01T00:00:00.000Z", "n": null, "nan": f64::NAN, "f": 1.5, "big": 9_007_199_254_740_992_u64 })
}

#[message_pattern("ret_id")]
async fn ret_id() -> Value {
    json!({ "id": "u1", "email": "a@b" })
}

#[derive(Deserialize)]
struct Big {
    n: usize,
}

#[message_pattern("ret_big")]
async fn ret_big(Payload(Big { n }): Payload<Big>) -> String {
    "x".repeat(n.min(8 * 1024 * 1024))
}

#[message_pattern("pid")]
async fn pid() -> Value {
    json!({ "pid": std::process::id() })
}
