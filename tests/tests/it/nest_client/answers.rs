//! Every form in which a NestJS service can answer: one value or none, errors, too much.

use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use nats_rpc::CallError;
use nats_rpc::testing::NatsServer;
use nats_rpc_tests::server;

use super::{answer, settled};
use crate::support::{PATIENCE, client, foreign, soon};

/// Sends to a fake service that answers like this; `ID` stands for the request's id.
async fn sent<T: serde::de::DeserializeOwned>(server: &NatsServer, answers: &[&str]) -> Result<T, CallError> {
    let service = foreign(server).await;
    let client = client(server).await.timeout(Duration::from_millis(500)).nest();
    let answers: Vec<_> = answers.iter().map(|body| (HeaderMap::new(), (*body).to_owned())).collect();
    let request = answer(&service, "any", "ID", &answers).await;
    let outcome = soon(client.send::<T>("any", &1)).await;
    soon(request).await.unwrap();
    outcome
}

#[tokio::test]
async fn a_send_takes_the_one_value_or_none() {
    let server = server();
    assert_eq!(sent::<u8>(&server, &[r#"{"response":5,"isDisposed":true,"id":"ID"}"#]).await.unwrap(), 5);
    let marked = [r#"{"response":5,"id":"ID"}"#, r#"{"isDisposed":true,"id":"ID"}"#];
    assert_eq!(sent::<u8>(&server, &marked).await.unwrap(), 5, "the end comes a tick later");
    sent::<()>(&server, &[r#"{"isDisposed":true,"id":"ID"}"#]).await.unwrap();
    assert_eq!(sent::<Option<u8>>(&server, &[r#"{"isDisposed":true,"id":"ID"}"#]).await.unwrap(), None);
    let others =
        [r#"{"response":1,"isDisposed":true,"id":"another"}"#, r#"{"response":2,"isDisposed":true,"id":"ID"}"#];
    assert_eq!(sent::<u8>(&server, &others).await.unwrap(), 2, "an answer to another request is passed over");
    let several = [r#"{"response":1,"id":"ID"}"#, r#"{"response":2,"isDisposed":true,"id":"ID"}"#];
    let error = sent::<u8>(&server, &several).await.unwrap_err();
    assert!(matches!(&error, CallError::IncompleteResponse { why, .. } if why.contains("`stream`")), "{error}");
    let error = sent::<u8>(&server, &[]).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    let error = sent::<u8>(&server, &[r#"{"response":"text","isDisposed":true,"id":"ID"}"#]).await.unwrap_err();
    assert!(matches!(error, CallError::Decode(_)), "{error}");
}

#[tokio::test]
async fn an_error_in_any_form_has_a_status_a_name_a_message_and_details() {
    let server = server();
    for (err, status, name, message, details) in [
        (r#""text""#, 500, None, "text", None),
        (r#"{"status":"error","message":"Internal server error"}"#, 500, None, "Internal server error", None),
        (r#"{"status":"error","message":"Forbidden resource"}"#, 403, None, "Forbidden resource", None),
        (
            r#"{"code":"E_NOT_FOUND","status":404,"message":"no user","details":{"id":7}}"#,
            404,
            Some("E_NOT_FOUND"),
            "no user",
            Some(r#"{"id":7}"#),
        ),
        (r#"{"code":"CONFLICT","message":"taken"}"#, 409, Some("CONFLICT"), "taken", None),
        (r#"{"code":409,"message":"taken"}"#, 409, None, "taken", None),
        (
            r#"{"statusCode":400,"message":["a is short","b is long"],"error":"Bad Request"}"#,
            400,
            None,
            "a is short; b is long",
            Some(r#"{"statusCode":400,"message":["a is short","b is long"],"error":"Bad Request"}"#),
        ),
        (r#"{"status":99999,"message":"odd"}"#, 500, None, "odd", None),
        (r#"{"why":1}"#, 500, None, "the service answered with an error", Some(r#"{"why":1}"#)),
        ("7", 500, None, "7", None),
        ("true", 500, None, "true", None),
        ("[1]", 500, None, "[1]", None),
    ] {
        let body = format!(r#"{{"err":{err},"isDisposed":true,"id":"ID"}}"#);
        let Err(CallError::Remote(error)) = sent::<u8>(&server, &[&body]).await else { panic!("{err}") };
        let given = (error.status(), error.name(), error.message(), error.details().map(|details| details.get()));
        assert_eq!(given, (status, name, message, details), "{err}");
    }
    for falsy in ["null", "false", "0", r#""""#] {
        let body = format!(r#"{{"err":{falsy},"response":5,"isDisposed":true,"id":"ID"}}"#);
        assert_eq!(sent::<u8>(&server, &[&body]).await.unwrap(), 5, "{falsy} is no error");
    }
}

#[tokio::test]
async fn a_service_that_comes_up_within_the_patience_is_found_and_none_is_told_at_last() {
    let server = server();
    let client = client(&server).await.nest();
    let error = soon(client.no_responders_timeout(Duration::ZERO).send::<u8>("late", &1)).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    let call = tokio::spawn({
        let client = client.no_responders_timeout(PATIENCE);
        async move { client.send::<u8>("late", &1).await }
    });
    let service = foreign(&server).await;
    let answers = [(HeaderMap::new(), r#"{"response":5,"isDisposed":true,"id":"ID"}"#.to_owned())];
    let request = answer(&service, "late", "ID", &answers).await;
    assert_eq!(soon(call).await.unwrap().unwrap(), 5);
    soon(request).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_runs_far_ahead_of_its_reader_ends_with_an_error() {
    let server = server();
    let service = foreign(&server).await;
    let mut asked = service.subscribe("fast").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.nest();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.stream::<u32>("fast", &1).await.unwrap() }
    });
    let reply = soon(asked.next()).await.unwrap().reply.unwrap();
    for _ in 0..1_100 {
        service.publish(reply.clone(), Bytes::from_static(br#"{"response":1}"#)).await.unwrap();
    }
    settled(&service).await;
    let mut items = soon(call).await.unwrap();
    // Its answer comes to the same inbox, behind all of them.
    soon(client.send::<u32>("settled.nobody", &1)).await.unwrap_err();
    let mut taken = 0;
    let error = loop {
        match soon(items.next()).await.unwrap() {
            Ok(1) => taken += 1,
            other => break other.unwrap_err(),
        }
    };
    assert!(taken == 1_024 && matches!(error, CallError::IncompleteResponse { .. }), "{taken}: {error}");
}
