//! Every captured message of NestJS's, sent to our service byte for byte.

use async_nats::HeaderMap;
use futures::StreamExt;
use nats_rpc::WireFormat;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::{Capture, Message, captures, ours, report};
use crate::support::{PATIENCE, foreign};

/// Where NestJS answers nothing, lets its caller wait for ever, or dies: what ours answers instead.
///
/// `docs/nestjs.md` has the same table in words.
const MENDED: &[(&str, u16)] = &[
    ("observable_never", 504),
    ("reply_too_big", 413),
    ("foreign_request/no_id", 400),
    ("foreign_request/only_id", 400),
    ("foreign_request/bare_json_object", 400),
    ("foreign_request/bare_number", 400),
    ("foreign_request/bare_null", 400),
    ("foreign_request/binary_payload", 400),
];

#[tokio::test]
async fn every_message_of_nestjs_is_answered_as_nestjs_answers_it() {
    for wire in [WireFormat::Nest, WireFormat::Auto] {
        let server = server();
        let _services = ours(&server, wire).await;
        let caller = foreign(&server).await;
        let mut count = 0;
        for capture in captures() {
            // A foreign peer's message is NestJS's business only where we follow its rules to the letter.
            let of_interest = match capture.kind.as_str() {
                "nest_to_nest" => true,
                "raw_request_to_nest_service" => wire == WireFormat::Nest,
                _ => false,
            };
            let Some(question) = capture.messages.first().filter(|_| of_interest) else { continue };
            if capture.name == "unknown_pattern_with_sniffer" {
                continue;
            }
            let answers = ask(&caller, question, expected_count(&capture)).await;
            compare(wire, &capture, &answers);
            count += 1;
        }
        report(&format!("{count} captured messages answered as NestJS answers them, with {wire:?}"));
        assert_eq!(count, if wire == WireFormat::Nest { 56 } else { 39 });
    }
}

fn mended(capture: &Capture) -> Option<u16> {
    MENDED.iter().find(|(name, _)| *name == capture.name).map(|(_, code)| *code)
}

fn expected_count(capture: &Capture) -> usize {
    match mended(capture) {
        Some(_) => 1,
        None => answers_of(capture).count(),
    }
}

fn answers_of(capture: &Capture) -> impl Iterator<Item = &Message> {
    capture.messages.iter().filter(|message| message.direction.starts_with("service->"))
}

/// Sends the captured bytes, and gives as many answers as expected.
async fn ask(caller: &async_nats::Client, question: &Message, expected: usize) -> Vec<async_nats::Message> {
    let subject = question.subject.clone().unwrap();
    let mut headers = HeaderMap::new();
    for (name, values) in &question.headers {
        for value in values {
            headers.append(name.as_str(), value.as_str());
        }
    }
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    if question.reply.is_some() {
        caller.publish_with_reply_and_headers(subject, inbox, headers, question.body().into()).await.unwrap();
    } else {
        caller.publish_with_headers(subject, headers, question.body().into()).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < expected {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
        heard.push(answer.unwrap_or_else(|_| panic!("no answer to {:?}", question.payload)).unwrap());
    }
    heard
}

fn compare(wire: WireFormat, capture: &Capture, answers: &[async_nats::Message]) {
    let name = &capture.name;
    if let Some(code) = mended(capture) {
        assert_eq!(crate::support::code(&answers[0]), code, "{name} with {wire:?}");
        let body: Value = serde_json::from_slice(&answers[0].payload).unwrap();
        assert!(body["err"]["message"].is_string() && body["isDisposed"] == true, "{name}: {body}");
        return;
    }
    if name == "foreign_request/deep_json" {
        // Deeper than a test would parse, and the capture has only its beginning.
        let theirs = answers_of(capture).next().unwrap().body();
        assert!(answers[0].payload.starts_with(&theirs), "{name}");
        assert!(answers[0].payload.ends_with(br#","isDisposed":true,"id":"x1"}"#), "{name}");
        return;
    }
    let read = |body: &[u8]| serde_json::from_slice::<Value>(body).map_err(|error| format!("{name}: {error}"));
    let mut ours: Vec<Value> = answers.iter().map(|answer| without_pid(read(&answer.payload).unwrap())).collect();
    let mut theirs: Vec<Value> = answers_of(capture).map(|answer| without_pid(read(&answer.body()).unwrap())).collect();
    if name == "overlapping_subscriptions" {
        // Two subscriptions, two answers; which comes first is anybody's guess.
        ours.sort_by_key(Value::to_string);
        theirs.sort_by_key(Value::to_string);
    }
    assert_eq!(ours, theirs, "{name} with {wire:?}");
}

/// A process has an id of its own.
fn without_pid(mut answer: Value) -> Value {
    if let Some(pid) = answer.pointer_mut("/response/pid") {
        *pid = json!(0);
    }
    answer
}
