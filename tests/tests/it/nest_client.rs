//! Our client in NestJS's dialect, against answers that a NestJS service gave once, and others that it could.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Wire};
use nats_rpc_tests::server;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{PATIENCE, client, foreign, nats, soon};

/// Messages captured between NestJS programs, and what its client made of them.
fn captured(kind: &str) -> Vec<Case> {
    let fixture = include_str!("../../fixtures/nest-wire.json");
    let cases: Vec<Case> = serde_json::from_str(fixture).unwrap();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.kind == kind).collect();
    assert!(cases.len() > 20, "only {} cases", cases.len());
    cases
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    client_call: Option<String>,
    messages: Vec<Captured>,
    #[serde(default)]
    client_sees: Vec<Value>,
}

#[derive(Deserialize)]
struct Captured {
    direction: String,
    subject: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Vec<String>>,
    payload: Option<String>,
}

impl Captured {
    fn body(&self) -> String {
        self.payload.clone().expect("a fixture of text")
    }
}

/// Answers the next request to `subject` with `answers`, in which `id` stands for its id; gives the request.
async fn answer(
    service: &async_nats::Client,
    subject: &str,
    id: &str,
    answers: &[(HeaderMap, String)],
) -> tokio::task::JoinHandle<async_nats::Message> {
    let mut asked = service.subscribe(subject.to_owned()).await.unwrap();
    settled(service).await;
    let (service, id, answers) = (service.clone(), id.to_owned(), answers.to_vec());
    tokio::spawn(async move {
        let request = soon(asked.next()).await.unwrap();
        let body: Value = serde_json::from_slice(&request.payload).unwrap();
        if let Some(own) = body.get("id").and_then(Value::as_str) {
            let reply = request.reply.clone().unwrap();
            for (headers, answer) in answers {
                let answer = answer.replace(&id, own);
                service.publish_with_headers(reply.clone(), headers, answer.into()).await.unwrap();
            }
            service.flush().await.unwrap();
        }
        request
    })
}

/// Waits until nats-server has taken what was sent to it: it answers in order.
async fn settled(nats: &async_nats::Client) {
    soon(nats.request("settled.nobody", Bytes::new())).await.unwrap_err();
}

/// What a caller sees, in the words of the fixture.
async fn seen(client: &Client, pattern: &str, data: &Value) -> Vec<Value> {
    let mut seen = Vec::new();
    let mut items = match soon(client.stream::<Value>(pattern, data)).await {
        Ok(items) => items,
        Err(error) => return vec![ended(error)],
    };
    while let Some(item) = soon(items.next()).await {
        match item {
            Ok(value) => seen.push(json!({ "next": value })),
            Err(error) => {
                seen.push(ended(error));
                return seen;
            }
        }
    }
    seen.push(json!("complete"));
    seen
}

fn ended(error: CallError) -> Value {
    match error {
        CallError::Answered(error) => json!({ "error": error.message() }),
        CallError::TimedOut { .. } => json!("timeout"),
        other => json!({ "broken": format!("{other:?}").split(['(', ' ']).next() }),
    }
}

fn headers(headers: &BTreeMap<String, Vec<String>>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, values) in headers {
        for value in values {
            map.append(name.as_str(), value.as_str());
        }
    }
    map
}

#[tokio::test]
async fn what_a_nestjs_service_answered_its_own_client_it_answers_ours() {
    let server = server();
    let service = foreign(&server).await;
    let plain = client(&server).await.item_timeout(Duration::from_millis(300)).nest();
    let mut cases = 0;
    for case in captured("nest_to_nest") {
        let Some(asked) = case.messages.iter().find(|message| message.direction == "client->service") else {
            // Refused by NestJS's client itself: null is no data to it, and is to ours.
            continue;
        };
        let wanted: Value = serde_json::from_str(&asked.body()).unwrap();
        let answers: Vec<_> = case.messages.iter().filter(|message| message.direction == "service->client").collect();
        let answers: Vec<_> = answers.iter().map(|told| (headers(&told.headers), told.body())).collect();
        let id = wanted["id"].as_str().unwrap_or("none");
        let subject = asked.subject.as_deref().unwrap();
        let request = answer(&service, subject, id, &answers).await;
        let pattern = match &wanted["pattern"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let client = asked.headers.iter().fold(plain.clone(), |client, (name, values)| client.header(name, &values[0]));
        let name = &case.name;
        if case.client_call.as_deref() == Some("emit") {
            client.emit(&pattern, &wanted["data"]).await.unwrap();
        } else {
            let expected: Vec<Value> = case.client_sees.iter().map(expected).collect();
            assert_eq!(seen(&client, &pattern, &wanted["data"]).await, expected, "{name}");
        }
        let request = soon(request).await.unwrap();
        let mut sent: Value = serde_json::from_slice(&request.payload).unwrap();
        if let Some(id) = sent.get_mut("id") {
            let digits = id.as_str().unwrap();
            assert!(digits.len() == 21 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
            *id = wanted["id"].clone();
        }
        let mut wanted = wanted;
        if wanted.get("data").is_none() {
            // A NestJS record may leave it out; ours says null.
            wanted["data"] = Value::Null;
        }
        assert_eq!(sent, wanted, "{name}");
        let given = request.headers.unwrap_or_default();
        for (header, values) in &asked.headers {
            assert_eq!(
                given.get(header.as_str()).unwrap().as_str(),
                values[0],
                "{name}: spelled as the guard reads it"
            );
        }
        cases += 1;
    }
    assert_eq!(cases, 37);
}

/// What our caller sees where NestJS's saw `seen`.
fn expected(seen: &Value) -> Value {
    match seen["kind"].as_str() {
        Some("next") => json!({ "next": seen["value"] }),
        Some("error") => json!({ "error": seen["err"]["message"] }),
        Some("complete") => json!("complete"),
        _ => json!("timeout"),
    }
}

#[tokio::test]
async fn every_form_of_answer_is_read_and_none_makes_a_caller_hang() {
    let server = server();
    let service = foreign(&server).await;
    let client = client(&server).await.item_timeout(Duration::from_millis(300)).nest();
    for case in captured("raw_reply_to_nest_client") {
        let answers: Vec<_> = case.messages.iter().map(|told| (headers(&told.headers), told.body())).collect();
        let name = case.name.strip_prefix("foreign_reply/").unwrap();
        let expected: Vec<Value> = match name {
            // Where NestJS's client waits for ever, ours says that it has waited.
            "no_isDisposed" => vec![json!({ "next": 1 }), json!("timeout")],
            "err_null_only" | "bare_object_with_own_id" | "bare_object_id_status" => vec![json!("timeout")],
            "malformed" => vec![json!({ "broken": "Decode" })],
            // Its versions differ; no value and no error is lost.
            "bare_object_status_only" => vec![json!({ "next": { "status": "ok" } }), json!("complete")],
            "full_plus_extra_key" => vec![json!({ "next": 1 }), json!("complete")],
            "err_and_response" => vec![json!({ "error": "e" })],
            "body_plus_svc_err_headers" => vec![json!({ "error": "nope" })],
            // An empty body with a status is nats-server's word; without one, nobody's.
            "empty_body" | "503_header" => vec![json!({ "broken": "Decode" })],
            _ => case.client_sees.iter().map(expected_of_raw).collect(),
        };
        let request = answer(&service, "any", "<REQ_ID>", &answers).await;
        assert_eq!(seen(&client, "any", &json!(1)).await, expected, "{name}");
        soon(request).await.unwrap();
    }
}

fn expected_of_raw(seen: &Value) -> Value {
    match seen.get("error") {
        Some(error) => json!({ "error": error["message"] }),
        None => seen.clone(),
    }
}

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
    assert!(matches!(&error, CallError::Broken { why, .. } if why.contains("`stream`")), "{error}");
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
        let Err(CallError::Answered(error)) = sent::<u8>(&server, &[&body]).await else { panic!("{err}") };
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
    let error = soon(client.patience(Duration::ZERO).send::<u8>("late", &1)).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    let call = tokio::spawn({
        let client = client.patience(PATIENCE);
        async move { client.send::<u8>("late", &1).await }
    });
    let service = foreign(&server).await;
    let answers = [(HeaderMap::new(), r#"{"response":5,"isDisposed":true,"id":"ID"}"#.to_owned())];
    let request = answer(&service, "late", "ID", &answers).await;
    assert_eq!(soon(call).await.unwrap().unwrap(), 5);
    soon(request).await.unwrap();
}

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

#[message_pattern("ours.echo")]
async fn echo(Payload(value): Payload<Value>) -> Value {
    value
}

#[message_pattern("ours.fail")]
async fn fail() -> Result<(), RpcError> {
    Err(RpcError::conflict("taken").with_details(7))
}

#[message_pattern({"cmd": "count"})]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

/// Tells when it is dropped.
#[derive(Clone)]
struct Alive(mpsc::UnboundedSender<()>);

struct Guarded(Alive);

impl Drop for Guarded {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.0.send(());
    }
}

#[message_pattern("ours.never")]
async fn never(State(alive): State<Alive>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let guarded = Guarded(alive);
    Streaming::new(stream::once(std::future::ready(Ok(1))).chain(stream::pending().map(move |number: u32| {
        let _ = &guarded;
        Ok(number)
    })))
}

#[tokio::test]
async fn a_service_of_ours_answers_in_this_dialect_too() {
    let server = server();
    for wire in [Wire::Auto, Wire::Nest] {
        let (ends, mut ended) = mpsc::unbounded_channel();
        let service = Service::new("ours", "1.0.0")
            .handlers(handlers![echo, fail, count, never])
            .provide(Alive(ends))
            .wire(wire)
            .start(nats(&server))
            .await
            .unwrap();
        let client = client(&server).await.nest();
        let value = json!({ "id": "u1", "response": 1, "isDisposed": false });
        assert_eq!(client.send::<Value>("ours.echo", &value).await.unwrap(), value);
        let Err(CallError::Answered(error)) = client.send::<()>("ours.fail", &()).await else { panic!("no error") };
        assert_eq!((error.code(), error.name(), error.message()), (Some(Code::Conflict), Some("CONFLICT"), "taken"));
        let numbers = client.stream::<u32>(r#"{"cmd":"count"}"#, &900).await.unwrap();
        let numbers: Vec<u32> = soon(numbers.map(Result::unwrap).collect()).await;
        assert_eq!(numbers, Vec::from_iter(1..=900));
        let mut items = client.stream::<u32>("ours.never", &()).await.unwrap();
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), 1);
        drop(items);
        soon(ended.recv()).await.unwrap();
        soon(service.stop()).await;
    }
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
    service.flush().await.unwrap();
    let mut items = soon(call).await.unwrap();
    soon(foreign(&server).await.flush()).await.unwrap();
    // All that was sent before this call has arrived when it ends.
    client.connection().echo(PATIENCE).await.unwrap();
    let mut taken = 0;
    let error = loop {
        match soon(items.next()).await.unwrap() {
            Ok(1) => taken += 1,
            other => break other.unwrap_err(),
        }
    };
    assert!(taken == 1_024 && matches!(error, CallError::Broken { .. }), "{taken}: {error}");
}
