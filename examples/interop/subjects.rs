//! Wildcards, overlapping patterns, object and number patterns, custom queue groups, headers.

use std::collections::BTreeMap;

use nats_rpc::Route;
use nats_rpc::prelude::*;
use serde_json::{Value, json};

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![wild, deep, exact, star, command, nested, number, whoami, in_a_group]
}

#[message_pattern("users.{id}.get")]
async fn wild(subject: Subject, Payload(data): Payload<Value>) -> Value {
    json!({ "subject": subject.as_str(), "data": data })
}

#[message_pattern("deep.>")]
async fn deep(subject: Subject) -> Value {
    json!({ "subject": subject.as_str(), "gt": true })
}

/// In the same queue group as [`star`], each message would go to one of the two handlers at random.
#[message_pattern("over.a", queue = none)]
async fn exact() -> &'static str {
    "exact"
}

#[message_pattern("over.*", queue = none)]
async fn star() -> &'static str {
    "star"
}

#[message_pattern({"cmd": "sum"})]
async fn command(Payload(data): Payload<Value>) -> Value {
    json!({ "cmd": "sum", "got": data })
}

#[message_pattern({"z": 1, "a": "x", "nested": {"k": "v"}})]
async fn nested(Payload(data): Payload<Value>) -> Value {
    json!({ "got": data })
}

#[message_pattern(42)]
async fn number(Payload(data): Payload<Value>) -> Value {
    json!({ "num": 42, "got": data })
}

#[message_pattern("whoami")]
async fn whoami(subject: Subject, headers: Headers, data: Option<Payload<Value>>) -> Value {
    let mut answer = json!({ "subject": subject.as_str(), "headers": by_name(&headers) });
    if let Some(Payload(data)) = data {
        answer["data"] = data;
    }
    answer
}

#[message_pattern("perq", queue = "perq-group")]
async fn in_a_group() -> Value {
    json!({ "pid": std::process::id() })
}

pub(crate) fn by_name(headers: &Headers) -> BTreeMap<&str, Vec<&str>> {
    let mut named = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in headers.iter() {
        named.entry(name).or_default().push(value);
    }
    named
}
