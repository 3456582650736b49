//! What a NestJS service answered its own client, and what foreign services did, byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::HeaderMap;
use nats_rpc::{CallError, Client};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::answer;
use crate::interop::{Capture, Message, captures};
use crate::support::{client, foreign, soon};

fn captured(kind: &str) -> Vec<Capture> {
    let mut captures = captures();
    captures.retain(|capture| capture.kind == kind);
    assert!(captures.len() > 20, "only {} cases", captures.len());
    captures
}

fn text(message: &Message) -> String {
    String::from_utf8(message.body()).expect("a capture of text")
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
        CallError::Remote(error) => json!({ "error": error.message() }),
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
        let wanted: Value = serde_json::from_str(&text(asked)).unwrap();
        let answers: Vec<_> = case.messages.iter().filter(|message| message.direction == "service->client").collect();
        let answers: Vec<_> = answers.iter().map(|told| (headers(&told.headers), text(told))).collect();
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
        let answers: Vec<_> = case.messages.iter().map(|told| (headers(&told.headers), text(told))).collect();
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
