//! What is sent to a NestJS service: the subject, the pattern, the header that its guard reads.

use futures::StreamExt;
use nats_rpc::CallError;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::settled;
use crate::support::{client, foreign, soon};

#[tokio::test]
async fn patterns_become_subjects_as_nestjs_makes_them() {
    let server = server();
    let service = foreign(&server).await;
    let client = client(&server).await.nest();
    for (pattern, subject, sent) in [
        ("users.42.get", "users.42.get", json!("users.42.get")),
        ("42", "42", json!(42)),
        ("007", "007", json!("007")),
        (r#"{ "cmd": "sum" }"#, r#"{"cmd":"sum"}"#, json!({ "cmd": "sum" })),
        (
            r#"{"z":1,"nested":{"k":"v"},"a":"x"}"#,
            r#"{"a":"x","nested":{"k":"v"},"z":1}"#,
            json!({ "z": 1, "nested": { "k": "v" }, "a": "x" }),
        ),
    ] {
        let mut asked = service.subscribe(subject.to_owned()).await.unwrap();
        settled(&service).await;
        client.emit(pattern, &json!({ "e": 1 })).await.unwrap();
        let event = soon(asked.next()).await.unwrap();
        let event: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(event, json!({ "pattern": sent, "data": { "e": 1 } }));
    }
    for bad in [r#"{"cmd": "two words"}"#, "{cmd}", r#"{"a":"#, "a b", ""] {
        let error = client.send::<u8>(bad, &1).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{bad}: {error}");
    }
}

#[tokio::test]
async fn a_token_travels_in_the_header_that_the_guard_reads() {
    let server = server();
    let service = foreign(&server).await;
    let client = client(&server).await.nest();
    for (client, spelled) in
        [(client.bearer("t"), "authorization"), (client.bearer_header("Authorization").bearer("t"), "Authorization")]
    {
        let mut asked = service.subscribe("guarded").await.unwrap();
        settled(&service).await;
        client.emit("guarded", &1).await.unwrap();
        let headers = soon(asked.next()).await.unwrap().headers.unwrap();
        assert_eq!(headers.get(spelled).unwrap().as_str(), "Bearer t");
        assert_eq!(headers.len(), 1);
    }
}
