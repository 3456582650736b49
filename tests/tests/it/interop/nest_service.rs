//! Our client, calling a NestJS service as its own clients do.

use futures::StreamExt;
use nats_rpc::{CallError, Client, Code};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::nest_client::nest_service;
use super::{node_is_there, report};
use crate::support::{client, soon};

/// What a call came to, in a form that can be compared.
async fn call(client: &Client, pattern: &str, data: Value) -> Result<Value, (u16, String, Option<Value>)> {
    match client.send::<Value>(pattern, &data).await {
        Ok(value) => Ok(value),
        Err(CallError::Remote(error)) => {
            let details = error.details().map(|details| serde_json::from_str(details.get()).unwrap());
            Err((error.status(), error.message().to_owned(), details))
        }
        Err(other) => panic!("{pattern}: {other}"),
    }
}

#[tokio::test]
async fn our_client_calls_a_nestjs_service_as_nestjs_would() {
    if !node_is_there() {
        return;
    }
    let server = server();
    let _service = nest_service(&server).await;
    let client = client(&server).await.nest();
    let internal = |text: &str| Err((500, text.to_owned(), None));

    let cases = [
        ("echo", json!({ "a": 1 }), Ok(json!({ "a": 1 }))),
        ("echo", json!([1, null, "é"]), Ok(json!([1, null, "é"]))),
        ("add", json!({ "a": 2, "b": 3 }), Ok(json!(5))),
        (r#"{"cmd":"sum"}"#, json!([1, 2]), Ok(json!({ "cmd": "sum", "got": [1, 2] }))),
        ("42", json!(7), Ok(json!({ "num": 42, "got": 7 }))),
        ("users.42.get", json!({ "x": 1 }), Ok(json!({ "subject": "users.42.get", "data": { "x": 1 } }))),
        ("ret_null", json!({}), Ok(Value::Null)),
        ("ret_undefined", json!({}), Ok(Value::Null)),
        ("empty_obs", json!({}), Ok(Value::Null)),
        ("ret_id", json!({}), Ok(json!({ "id": "u1", "email": "a@b" }))),
        ("ret_buffer", json!({}), Ok(json!({ "type": "Buffer", "data": [0, 1, 255] }))),
        ("fail_rpc", json!({ "kind": "string" }), internal("rpc string failure")),
        ("fail_rpc", json!({ "kind": "object" }), Err((404, "user not found".to_owned(), Some(json!({ "id": 7 }))))),
        ("fail_error", json!({}), internal("Internal server error")),
        ("fail_throw_value", json!({}), internal("Internal server error")),
        ("fail_observable", json!({}), internal("from observable")),
        ("secure.user", json!({}), Err((401, "no token".to_owned(), None))),
    ];
    let count = cases.len();
    for (pattern, data, expected) in cases {
        assert_eq!(call(&client, pattern, data).await, expected, "{pattern}");
    }

    let nobody = client.no_responders_timeout(std::time::Duration::ZERO).send::<Value>("nope", &1).await;
    assert!(matches!(nobody, Err(CallError::NoResponders { .. })), "{nobody:?}");

    let seen = client.bearer("a.b.c").header("X-Multi", "a").send::<Value>("whoami", &1).await.unwrap();
    assert_eq!(seen["headers"]["authorization"], json!(["Bearer a.b.c"]), "as its guards spell it");
    assert_eq!(seen["headers"]["X-Multi"], json!(["a"]));
    let seen = client.bearer_header("Authorization").bearer("a.b.c").send::<Value>("whoami", &1).await.unwrap();
    assert_eq!(seen["headers"]["Authorization"], json!(["Bearer a.b.c"]));

    client.emit("evt.one", &json!({ "e": 1 })).await.unwrap();
    let counted = async {
        loop {
            let counts = client.send::<Value>("event_count", &json!({})).await.unwrap();
            if counts["evt.one"] == 1 && counts["second"] == 1 {
                return;
            }
        }
    };
    soon(counted).await;
    report(&format!("{count} calls of our client to a NestJS service, headers, an event"));
}

#[tokio::test]
async fn observables_of_a_nestjs_service_are_streams_to_our_client() {
    if !node_is_there() {
        return;
    }
    let server = server();
    let _service = nest_service(&server).await;
    let client = client(&server).await.nest();
    let items = async |pattern: &str, data: Value| {
        let stream = client.stream::<Value>(pattern, &data).await.unwrap();
        soon(stream.collect::<Vec<_>>()).await
    };
    let values = |items: Vec<Result<Value, CallError>>| items.into_iter().map(Result::unwrap).collect::<Vec<_>>();

    assert_eq!(values(items("of3", json!({})).await), [json!(1), json!(2), json!(3)]);
    assert_eq!(values(items("promise_of_obs", json!({})).await), [json!("a"), json!("b")]);
    assert_eq!(values(items("empty_obs", json!({})).await), [] as [Value; 0]);
    assert_eq!(values(items("stream", json!({ "n": 3, "ms": 5 })).await), [0, 1, 2].map(|i| json!({ "i": i })));
    assert_eq!(values(items("echo", json!(7)).await), [json!(7)], "one answer is a stream of one");

    let mut broken = items("stream", json!({ "n": 3, "fail_at": 2 })).await;
    let Some(Err(CallError::Remote(error))) = broken.pop() else { panic!("it does not end with its error") };
    assert_eq!((error.code(), error.message()), (Some(Code::Internal), "failed at 2"));
    assert_eq!(values(broken), [0, 1].map(|i| json!({ "i": i })));
    report("6 Observables of a NestJS service");
}
