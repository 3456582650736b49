//! Whatever a peer sends gets its coded answer at once, and the service goes on.

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::{CallError, ServiceHandle};
use nats_rpc_tests::server_with;
use serde_json::Value;

use crate::support::{client, code, foreign, nats, request, send_raw, soon};

#[derive(Deserialize)]
struct Add {
    a: i32,
    b: i32,
}

#[message_pattern("bad.add")]
async fn add(Payload(Add { a, b }): Payload<Add>) -> Result<i32, RpcError> {
    a.checked_add(b).ok_or_else(|| RpcError::invalid_argument("out of range"))
}

#[message_pattern("bad.any")]
async fn any(Payload(value): Payload<Value>) -> Value {
    value
}

#[message_pattern("bad.large")]
async fn large(Payload(bytes): Payload<usize>) -> String {
    "x".repeat(bytes)
}

#[message_pattern("bad.large_error")]
async fn large_error(Payload(bytes): Payload<usize>) -> Result<(), RpcError> {
    Err(RpcError::conflict("x".repeat(bytes)).with_details("y".repeat(bytes)))
}

#[message_pattern("bad.panic")]
async fn panic(Payload(secret): Payload<String>) {
    tokio::task::yield_now().await;
    panic!("{secret}")
}

/// Panics when it is dropped, as a cancelled handler is.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

#[message_pattern("bad.panic_on_cancel", timeout_ms = 20)]
async fn panic_on_cancel() {
    let _bomb = PanicsOnDrop;
    std::future::pending::<()>().await;
}

/// Panics when it is written to the log, as a careless slice of a string does.
#[derive(Debug)]
struct PanicsWhenShown;

impl std::fmt::Display for PanicsWhenShown {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("shown")
    }
}

impl std::error::Error for PanicsWhenShown {}

#[message_pattern("bad.shown")]
async fn shown() -> Result<(), RpcError> {
    Err(PanicsWhenShown).internal()
}

#[message_pattern("b")]
async fn short(Payload(number): Payload<i32>) -> i32 {
    number
}

#[message_pattern("bad.panic_with_bomb")]
async fn panic_with_bomb() {
    std::panic::panic_any(PanicsOnDrop);
}

#[message_pattern("bad.internal")]
async fn internal() -> Result<(), RpcError> {
    Err(std::io::Error::other("password=hunter2")).internal()
}

#[message_pattern("bad.ping")]
async fn ping() -> &'static str {
    "pong"
}

/// In no queue group: JetStream delivers to the members of one only if they ask for its consumer.
#[message_pattern("bad.victim", queue = none)]
async fn victim() {}

async fn start(server: &nats_rpc::testing::NatsServer) -> ServiceHandle {
    let handlers = handlers![add, any, large, large_error, panic, panic_on_cancel, internal, ping, victim];
    let more = handlers![shown, short, panic_with_bomb];
    Service::new("bad", "1.0.0").handlers(handlers).handlers(more).start(nats(server)).await.unwrap()
}

#[tokio::test]
async fn data_that_cannot_be_used_is_answered_400_in_the_callers_dialect() {
    let server = server_with(|builder| builder);
    let _service = start(&server).await;
    let caller = foreign(&server).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_member = format!(r#"{{"a":{deep},"b":1}}"#);
    let bad: [(&str, &[u8]); 12] = [
        ("bad.add", b"not json"),
        ("bad.add", b""),
        ("bad.add", b"{"),
        ("bad.add", b"null"),
        ("bad.add", br#"{"a":"1","b":2}"#),
        ("bad.add", br#"{"a":1}"#),
        ("bad.add", br#"{"a":1,"b":2.5}"#),
        ("bad.add", b"{\"a\":1,\"b\":\"\xff\xfe\"}"),
        ("bad.add", deep_member.as_bytes()),
        ("bad.any", deep.as_bytes()),
        ("bad.any", b"\xff"),
        ("bad.any", b"1 2"),
    ];
    for (subject, body) in bad {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]);
        let answer = request(&caller, subject, body.to_vec()).await;
        assert_eq!(code(&answer), 400, "{shown}");
        let body: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(body["code"], "INVALID_ARGUMENT", "{shown}");
    }
    for data in [r#""data":{"a":1},"#, r#""data":null,"#, "", &format!(r#""data":{deep},"#)] {
        let envelope = format!(r#"{{"pattern":"bad.add",{data}"id":"88a5f0d6ac4d1830655c1"}}"#);
        let answer = request(&caller, "bad.add", envelope).await;
        assert_eq!(code(&answer), 400);
        let body: Value = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(body["err"]["status"], 400);
        assert_eq!(body["id"], "88a5f0d6ac4d1830655c1");
    }
    assert_eq!(&request(&caller, "bad.add", r#"{"a":1,"b":2}"#).await.payload[..], b"3");
}

/// `JSON.stringify({ text: 'hi 😀'.slice(0, 4) })` writes half of a surrogate pair.
#[tokio::test]
async fn half_a_surrogate_pair_is_read_in_both_dialects() {
    let server = server_with(|builder| builder);
    let _service = start(&server).await;
    let caller = foreign(&server).await;
    let half = r#"{"text":"hi \ud83d"}"#;
    let read = serde_json::json!({ "text": "hi \u{fffd}" });
    let reply = request(&caller, "bad.any", half).await;
    assert_eq!((code(&reply), serde_json::from_slice::<Value>(&reply.payload).unwrap()), (0, read.clone()));
    let id = "88a5f0d6ac4d1830655c1";
    for envelope in [
        format!(r#"{{"pattern":"bad.any","data":{half},"id":"{id}"}}"#),
        format!(r#"{{"id":"{id}","data":{half},"pattern":"bad.any"}}"#),
    ] {
        let reply = request(&caller, "bad.any", envelope).await;
        assert_eq!(serde_json::from_slice::<Value>(&reply.payload).unwrap()["response"], read);
    }
}

#[tokio::test]
async fn a_message_larger_than_the_server_takes_is_refused_in_either_direction() {
    let server = server_with(|builder| builder.config("max_payload: 8192"));
    let _service = start(&server).await;
    let client = client(&server).await;
    assert_eq!(client.send::<String>("bad.large", &8_000).await.unwrap().len(), 8_000);
    let error = client.send::<String>("bad.large", &8_191).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::PayloadTooLarge));
    let error = client.send::<()>("bad.large_error", &9_000).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Conflict), "an error that is too large keeps its code");
    let error = client.send::<Value>("bad.any", &"x".repeat(9_000)).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { max: 8_192, .. }), "{error}");
    assert_eq!(client.send::<String>("bad.ping", &()).await.unwrap(), "pong");
}

#[tokio::test]
async fn a_call_that_only_its_headers_make_too_large_is_refused_as_too_large() {
    let server = server_with(|builder| builder.config("max_payload: 8192"));
    let _service = start(&server).await;
    let client = client(&server).await;
    for client in [client.clone(), client.wait_for_ready()] {
        let error = soon(client.send::<Value>("bad.any", &"x".repeat(8_180))).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge { max: 8_192, size, .. } if size > 8_192), "{error}");
    }
    let error = client.header("x", "y".repeat(20)).emit("bad.any", &"x".repeat(8_180)).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn a_request_whose_id_is_too_long_to_be_sent_back_is_answered_400() {
    let server = server_with(|builder| builder.config("max_payload: 8192"));
    let _service = start(&server).await;
    let caller = foreign(&server).await;
    let id = "i".repeat(8_100);
    for subject in ["bad.any", "bad.add"] {
        let envelope = format!(r#"{{"pattern":"{subject}","data":1,"id":"{id}"}}"#);
        assert_eq!(code(&request(&caller, subject, envelope).await), 400, "{subject}");
    }
}

#[tokio::test]
async fn a_reply_subject_too_long_to_be_answered_does_not_cost_the_connection() {
    let server = server_with(|builder| builder);
    let service = start(&server).await;
    // The server takes 4,096 bytes behind `PUB`; the same reply subject with an error's sizes needs more.
    let reply = format!("_INBOX.{}", "r".repeat(4_096 - "b _INBOX. 0".len()));
    send_raw(&server, format!("PUB b {reply} 0\r\n\r\n").as_bytes()).await;
    assert_eq!(&request(&foreign(&server).await, "bad.ping", "").await.payload[..], b"\"pong\"");
    service.check(crate::support::PATIENCE).await.unwrap();
    let connects = &service.connection().nats().statistics().connects;
    assert_eq!(connects.load(std::sync::atomic::Ordering::Relaxed), 1, "it had to connect again");
    let short = service.stats().into_iter().find(|stats| stats.handler == "short").unwrap();
    assert_eq!((short.requests, short.rejected_reply_subjects), (0, 1));
}

#[tokio::test]
async fn without_a_reply_subject_the_handler_runs_and_nobody_is_answered() {
    let server = server_with(|builder| builder);
    let service = start(&server).await;
    let caller = foreign(&server).await;
    let mut everything = caller.subscribe(">").await.unwrap();
    for body in ["1", "nonsense", r#"{"pattern":"bad.any","data":1,"id":"x"}"#] {
        caller.publish("bad.any", body.into()).await.unwrap();
    }
    assert_eq!(&request(&caller, "bad.any", "2").await.payload[..], b"2");
    let seen: Vec<_> = soon(everything.by_ref().take(5).map(|message| message.subject.to_string()).collect()).await;
    let answers = seen.iter().filter(|subject| *subject != "bad.any").count();
    assert_eq!(answers, 1, "{seen:?}");
    let any = service.stats().into_iter().find(|stats| stats.handler == "any").unwrap();
    assert_eq!((any.requests, any.errors), (4, 1));
}

#[tokio::test]
async fn a_panic_is_a_500_that_says_nothing_and_the_next_request_is_fine() {
    let server = server_with(|builder| builder);
    let _service = start(&server).await;
    let caller = foreign(&server).await;
    for _ in 0..300 {
        let answer = request(&caller, "bad.panic", r#""hunter2""#).await;
        assert_eq!(code(&answer), 500);
        assert!(!String::from_utf8_lossy(&answer.payload).contains("hunter2"));
    }
    for subject in ["bad.panic_on_cancel", "bad.panic_with_bomb", "bad.shown"] {
        let answer = request(&caller, subject, "").await;
        assert_eq!(code(&answer), 500, "{subject}");
    }
    assert_eq!(&request(&caller, "bad.ping", "").await.payload[..], b"\"pong\"");
}

#[tokio::test]
async fn the_cause_of_a_500_stays_in_the_service() {
    let server = server_with(|builder| builder);
    let _service = start(&server).await;
    let answer = request(&foreign(&server).await, "bad.internal", "").await;
    assert_eq!(code(&answer), 500);
    assert_eq!(&answer.payload[..], br#"{"code":"INTERNAL","message":"internal error"}"#);
}

#[tokio::test]
async fn a_message_that_was_not_sent_to_the_handler_is_dropped_and_counted() {
    let server = server_with(|builder| builder);
    let service = start(&server).await;
    let caller = foreign(&server).await;
    let jetstream = async_nats::jetstream::new(caller.clone());
    let config = async_nats::jetstream::stream::Config {
        name: "OWN".into(),
        subjects: vec!["own.>".into()],
        ..Default::default()
    };
    let stream = jetstream.create_stream(config).await.unwrap();
    let config =
        async_nats::jetstream::consumer::push::Config { deliver_subject: "bad.victim".into(), ..Default::default() };
    stream.create_consumer(config).await.unwrap();
    jetstream.publish("own.evil", "{}".into()).await.unwrap().await.unwrap();
    let dropped = async {
        while service.stats().iter().all(|stats| stats.unexpected == 0) {
            tokio::task::yield_now().await;
        }
    };
    soon(dropped).await;
    assert!(service.stats().iter().all(|stats| stats.requests == 0));
    assert_eq!(&request(&caller, "bad.ping", "").await.payload[..], b"\"pong\"");
}
