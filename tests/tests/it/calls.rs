//! What a call can come back with.

use std::time::Duration;

use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client, IntoRpcError, NatsConfig};
use nats_rpc_tests::{server, server_with};
use serde_json::{Value, json};

use crate::support::{PATIENCE, client, nats, soon};

#[derive(Debug)]
struct Missing(u32);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "there is no {}", self.0)
    }
}

impl IntoRpcError for Missing {
    fn into_rpc_error(self) -> RpcError {
        RpcError::not_found(self.to_string()).with_details(json!({ "number": self.0 }))
    }
}

#[message_pattern("call.find")]
async fn find(Payload(number): Payload<u32>) -> Result<u32, Missing> {
    if number < 10 { Ok(number) } else { Err(Missing(number)) }
}

#[message_pattern("call.headers")]
async fn headers(headers: Headers) -> Vec<String> {
    headers.get_all("x-tag").map(ToOwned::to_owned).collect()
}

#[message_pattern("call.users.{user}.posts.{post}")]
async fn post(Param((user, post)): Param<(String, u32)>, subject: Subject) -> String {
    format!("{user}/{post} at {subject}")
}

#[message_pattern("call.optional")]
async fn optional(payload: Option<Payload<u32>>) -> Option<u32> {
    payload.map(|Payload(number)| number)
}

#[message_pattern("call.forward")]
async fn forward(State(client): State<Client>, Payload(subject): Payload<String>) -> Result<u32, RpcError> {
    Ok(client.send(subject, &99).await?)
}

#[message_pattern("call.nothing")]
async fn nothing() {}

async fn start(server: &nats_rpc::testing::NatsServer) -> nats_rpc::ServiceHandle {
    Service::new("call", "1.0.0")
        .handlers(handlers![find, headers, post, optional, forward, nothing])
        .provide_with(async |context: ServiceContext| Ok::<_, RpcError>(Client::new(context.connection().clone())))
        .start(nats(server))
        .await
        .unwrap()
}

#[tokio::test]
async fn an_answer_is_a_value_or_an_error_with_code_message_and_details() {
    let server = server();
    let _service = start(&server).await;
    let client = client(&server).await;
    assert_eq!(client.send::<u32>("call.find", &7).await.unwrap(), 7);
    let Err(CallError::Remote(error)) = client.send::<u32>("call.find", &12).await else { panic!("no error") };
    assert_eq!((error.code(), error.message()), (Some(Code::NotFound), "there is no 12"));
    assert_eq!(error.details().unwrap().get(), r#"{"number":12}"#);
    assert!(matches!(client.send::<String>("call.find", &7).await, Err(CallError::Decode(_))));
    client.send::<()>("call.nothing", &()).await.unwrap();
}

#[tokio::test]
async fn parameters_headers_and_optional_data_reach_the_handler() {
    let server = server();
    let _service = start(&server).await;
    let client = client(&server).await;
    let tagged: Vec<String> = client.header("X-Tag", "a").header("x-tag", "b").send("call.headers", &()).await.unwrap();
    assert_eq!(tagged.len(), 2);
    let posted: String = client.send("call.users.ada.posts.3", &()).await.unwrap();
    assert_eq!(posted, "ada/3 at call.users.ada.posts.3");
    let error = client.send::<String>("call.users.ada.posts.x", &()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument));
    assert_eq!(client.send::<Option<u32>>("call.optional", &3).await.unwrap(), Some(3));
    assert_eq!(
        client.send::<Option<u32>>("call.optional", &"x").await.unwrap_err().code(),
        Some(Code::InvalidArgument)
    );
    let empty = client.connection().nats().request("call.optional", bytes::Bytes::new()).await.unwrap();
    assert_eq!(&empty.payload[..], b"null");
}

#[tokio::test]
async fn nobody_listening_is_known_after_the_patience_and_at_once_without() {
    let server = server();
    let client = client(&server).await;
    let error = soon(client.no_responders_timeout(Duration::ZERO).send::<()>("call.nobody", &())).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    let error = soon(client.send::<()>("call.nobody", &())).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
    // With less time than patience it is still nobody, and no call that may have executed.
    let hasty = client.timeout(Duration::from_millis(200)).no_responders_timeout(Duration::from_secs(5));
    let error = soon(hasty.send::<()>("call.nobody", &())).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
}

#[tokio::test]
async fn a_failed_call_of_a_handler_is_told_to_its_caller_as_far_as_it_concerns_him() {
    let server = server();
    let _service = start(&server).await;
    let client = client(&server).await;
    let forwarded = async |subject: &str| client.send::<u32>("call.forward", subject).await.unwrap_err().code();
    assert_eq!(forwarded("call.find").await, Some(Code::NotFound));
    assert_eq!(forwarded("call.nobody").await, Some(Code::Unavailable));
    assert_eq!(forwarded("call bad subject").await, Some(Code::Internal));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_before_it_is() {
    let server = server();
    let client = client(&server).await;
    for subject in ["", "a b", "a..b", ".a", "a.", "a.*", ">", "a\r\nb"] {
        let error = client.send::<()>(subject, &()).await.unwrap_err();
        assert!(matches!(error, CallError::Invalid(_)), "{subject:?}: {error}");
    }
    let error = client.header("x", "a\r\nb").send::<()>("a", &()).await.unwrap_err();
    assert!(matches!(error, CallError::Invalid(_)), "{error}");
    let error = client.bearer("hunter2\n").emit("a", &()).await.unwrap_err();
    assert!(matches!(&error, CallError::Invalid(why) if !why.contains("hunter2")), "{error}");
    let map = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(matches!(client.send::<()>("a", &map).await, Err(CallError::Invalid(_))));
}

#[tokio::test]
async fn a_subject_that_this_user_may_not_publish_to_is_known_before_the_deadline() {
    let config = r#"authorization { users: [ { user: u, password: p, permissions: { publish: ["ok.>", "_INBOX.>"], subscribe: ["_INBOX.>"] } } ] }"#;
    let server = server_with(|builder| builder.config(config).jetstream(false));
    let client = Client::connect(&NatsConfig::new(server.url()).user("u", "p")).await.unwrap().timeout(PATIENCE * 10);
    let error = soon(client.send::<Value>("forbidden", &())).await.unwrap_err();
    assert!(matches!(error, CallError::Forbidden { .. }), "{error}");
}

#[tokio::test]
async fn a_call_in_flight_when_the_connection_breaks_says_that_it_may_have_executed() {
    let mut server = server();
    let silent = crate::support::foreign(&server).await;
    let mut asked = silent.subscribe("call.silent").await.unwrap();
    silent.flush().await.unwrap();
    let client = client(&server).await.timeout(PATIENCE * 10);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.send::<()>("call.silent", &()).await }
    });
    soon(futures::StreamExt::next(&mut asked)).await.unwrap();
    server.kill();
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error}");
    let error = soon(client.send::<()>("call.silent", &())).await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected), "{error}");
    server.restart().unwrap();
    soon(client.connection().wait_for(|state| *state == nats_rpc::ConnectionState::Connected)).await;
    let error = soon(client.timeout(Duration::from_secs(5)).send::<()>("call.nobody", &())).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
}

#[message_pattern("call.late")]
async fn late() {}

#[tokio::test]
async fn a_service_that_comes_up_within_the_patience_is_found() {
    let server = server();
    let client = client(&server).await.no_responders_timeout(PATIENCE);
    let call = tokio::spawn(async move { client.send::<()>("call.late", &()).await });
    let _late = Service::new("late", "1.0.0").handlers(handlers![late]).start(nats(&server)).await.unwrap();
    soon(call).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_waits_for_the_server_calls_once_it_is_there() {
    let mut server = server();
    let client = client(&server).await;
    server.kill();
    soon(client.connection().wait_for(|state| *state == nats_rpc::ConnectionState::Disconnected)).await;
    let error = client.wait_for_ready().timeout(Duration::from_millis(50)).send::<()>("call.late", &()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: false, .. }), "{error}");
    assert!(error.to_string().contains("not sent"), "{error}");
    let waiting = client.wait_for_ready().no_responders_timeout(PATIENCE);
    let call = tokio::spawn(async move { waiting.send::<()>("call.late", &()).await });
    server.restart().unwrap();
    let _late = Service::new("late", "1.0.0").handlers(handlers![late]).start(nats(&server)).await.unwrap();
    soon(call).await.unwrap().unwrap();
}

/// Answers 503 twice, then a number.
#[message_pattern("call.shaky")]
async fn shaky(State(attempts): State<std::sync::Arc<std::sync::atomic::AtomicU32>>) -> Result<u32, RpcError> {
    match attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        attempt @ 0..2 => Err(RpcError::unavailable(format!("attempt {attempt}"))),
        attempt => Ok(attempt),
    }
}

#[tokio::test]
async fn only_a_call_that_says_so_is_executed_again() {
    let server = server();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let service = Service::new("shaky", "1.0.0").handlers(handlers![shaky]).provide(attempts);
    let _service = service.start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    assert_eq!(client.send::<u32>("call.shaky", &()).await.unwrap_err().code(), Some(Code::Unavailable));
    assert_eq!(client.idempotent().send::<u32>("call.shaky", &()).await.unwrap(), 2);
}

#[tokio::test]
async fn who_is_asked_once_cannot_guess_where_the_next_call_is_answered() {
    let server = server();
    let silent = crate::support::foreign(&server).await;
    let mut asked = silent.subscribe("call.silent").await.unwrap();
    silent.flush().await.unwrap();
    let client = client(&server).await.timeout(Duration::from_millis(100));
    let mut tokens = Vec::new();
    for _ in 0..2 {
        soon(client.send::<()>("call.silent", &())).await.unwrap_err();
        let question = soon(futures::StreamExt::next(&mut asked)).await.unwrap();
        let reply = question.reply.unwrap();
        // A token is a number and its tag; the tag is the secret.
        let (_, tag) = reply.rsplit_once('-').unwrap();
        tokens.push(u64::from_str_radix(tag, 16).unwrap());
    }
    assert!(tokens[0].abs_diff(tokens[1]) > 1_000_000, "{tokens:?}");
}

#[tokio::test]
async fn calls_beyond_4096_wait_for_their_turn() {
    const CALLS: usize = 4_100;
    let server = server();
    let silent = crate::support::foreign(&server).await;
    let mut asked = silent.subscribe("call.silent").await.unwrap();
    let mut marks = silent.subscribe("call.mark").await.unwrap();
    silent.flush().await.unwrap();
    let client = client(&server).await;
    let calls: tokio::task::JoinSet<_> = (0..CALLS)
        .map(|_| {
            let client = client.clone();
            async move { client.send::<u8>("call.silent", &()).await }
        })
        .collect();
    let mut questions = Vec::new();
    for _ in 0..4_096 {
        questions.push(soon(futures::StreamExt::next(&mut asked)).await.unwrap());
    }
    // Of one connection: what it published before would have arrived before.
    client.connection().nats().publish("call.mark", "".into()).await.unwrap();
    soon(futures::StreamExt::next(&mut marks)).await.unwrap();
    let early = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut asked));
    assert!(early.is_none(), "a call did not wait for its turn");
    let answer = async |question: async_nats::Message| {
        silent.publish(question.reply.unwrap(), "7".into()).await.unwrap();
    };
    for question in questions {
        answer(question).await;
    }
    for _ in 4_096..CALLS {
        answer(soon(futures::StreamExt::next(&mut asked)).await.unwrap()).await;
    }
    let answers: Vec<u8> = soon(calls.join_all()).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [7; CALLS]);
}
