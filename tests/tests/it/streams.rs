//! Answers of many items: their order, their ends, and what becomes of them when a side goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{HeaderMap, Message, Subscriber};
use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Limits, Running};
use nats_rpc_tests::{server, server_with};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{PATIENCE, client, code, foreign, nats, request, request_with, soon};

/// What the tests see of the handlers' streams.
#[derive(Clone)]
struct Seen {
    /// Items asked for.
    produced: Arc<AtomicU64>,
    /// Lets one item through each, where a stream is gated.
    gate: Arc<Semaphore>,
    ends: mpsc::UnboundedSender<()>,
}

/// Tells when a stream is dropped.
struct Alive(Seen);

impl Drop for Alive {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.ends.send(());
    }
}

#[message_pattern("stream.count")]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

#[message_pattern("stream.refused")]
async fn refused() -> Result<Streaming<impl Stream<Item = Result<u32, RpcError>>>, RpcError> {
    if true {
        return Err(RpcError::forbidden("no numbers for you"));
    }
    Ok(Streaming::new(stream::empty()))
}

#[message_pattern("stream.fails")]
async fn fails() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let error = RpcError::not_found("there is no 3").with_details(json!({ "number": 3 }));
    Streaming::new(stream::iter([Ok(1), Ok(2), Err(error), Ok(4)]))
}

#[message_pattern("stream.endless")]
async fn endless(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let alive = Alive(seen);
    Streaming::new(stream::repeat(()).map(move |()| Ok(alive.0.produced.fetch_add(1, Ordering::SeqCst) + 1)))
}

/// Each item waits for a permit; the first number is sent at once.
#[message_pattern("stream.gated")]
async fn gated(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let gate = seen.gate.clone();
    let alive = Alive(seen);
    Streaming::new(stream::unfold((0, alive, gate), async |(number, alive, gate)| {
        if number > 0 {
            gate.acquire().await.expect("the gate is never closed").forget();
        }
        Some((Ok(number), (number + 1, alive, gate)))
    }))
}

#[message_pattern("stream.never")]
async fn never(State(seen): State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    let alive = Alive(seen);
    Streaming::new(stream::pending().map(move |number| {
        let _ = &alive;
        Ok(number)
    }))
}

#[message_pattern("stream.limited", timeout_ms = 300)]
async fn limited(seen: State<Seen>) -> Streaming<impl Stream<Item = Result<u64, RpcError>>> {
    gated(seen).await
}

#[message_pattern("stream.panics")]
async fn panics() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter(1..).map(|number| if number < 3 { Ok(number) } else { panic!("of the stream") }))
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("of a stream that is dropped");
    }
}

#[message_pattern("stream.bomb")]
async fn bomb() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let bomb = Bomb;
    Streaming::new(stream::iter(1..=2).map(move |number| {
        let _ = &bomb;
        Ok(number)
    }))
}

#[message_pattern("stream.sizes")]
async fn sizes(Payload(sizes): Payload<Vec<usize>>) -> Streaming<impl Stream<Item = Result<String, RpcError>>> {
    Streaming::new(stream::iter(sizes).map(|size| Ok("x".repeat(size))))
}

#[message_pattern("stream.unary")]
async fn unary() -> u32 {
    7
}

struct Stage {
    server: NatsServer,
    service: Running,
    client: Client,
    seen: Seen,
    ends: mpsc::UnboundedReceiver<()>,
}

async fn stage() -> Stage {
    stage_with(server(), Limits::default()).await
}

async fn stage_with(server: NatsServer, limits: Limits) -> Stage {
    let (ends, ended) = mpsc::unbounded_channel();
    let seen = Seen { produced: Arc::default(), gate: Arc::new(Semaphore::new(0)), ends };
    let service = Service::new("stream", "1.0.0")
        .handlers(handlers![count, refused, fails, endless, gated, never, limited, panics, bomb, sizes, unary])
        .provide(seen.clone())
        .limits(limits)
        .start(nats(&server))
        .await
        .unwrap();
    let client = client(&server).await.stream_timeout(PATIENCE * 2).item_timeout(PATIENCE);
    Stage { server, service, client, seen, ends: ended }
}

/// Takes all items up to the end, and the error that was the end.
async fn all<T: serde::de::DeserializeOwned>(mut items: nats_rpc::Incoming<T>) -> (Vec<T>, Option<CallError>) {
    let mut taken = Vec::new();
    while let Some(item) = soon(items.next()).await {
        match item {
            Ok(item) => taken.push(item),
            Err(error) => {
                assert!(soon(items.next()).await.is_none(), "an error is the last item");
                return (taken, Some(error));
            }
        }
    }
    (taken, None)
}

fn answered(error: Option<CallError>) -> u16 {
    match error {
        Some(CallError::Answered(error)) => error.status(),
        other => panic!("it should be an answer: {other:?}"),
    }
}

#[tokio::test]
async fn a_stream_brings_every_item_in_order_and_ends() {
    let stage = stage().await;
    for last in [0, 1, 2, 31, 32, 33, 64, 5_000] {
        let (items, error) = all(stage.client.stream::<u32>("stream.count", &last).await.unwrap()).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(items, Vec::from_iter(1..=last));
    }
    for window in [1, 2, 3, 1_024] {
        let items = stage.client.window(window).stream::<u32>("stream.count", &100).await.unwrap();
        assert_eq!(all(items).await.0.len(), 100, "with a window of {window}");
    }
}

#[tokio::test]
async fn an_error_is_the_last_item_and_a_refusal_comes_before_the_first() {
    let stage = stage().await;
    let (items, error) = all(stage.client.stream::<u32>("stream.fails", &()).await.unwrap()).await;
    assert_eq!(items, [1, 2]);
    let Some(CallError::Answered(error)) = error else { panic!("{error:?}") };
    assert_eq!(
        (error.code(), error.message(), error.name()),
        (Some(Code::NotFound), "there is no 3", Some("NOT_FOUND"))
    );
    assert_eq!(error.details().unwrap().get(), r#"{"number":3}"#);
    let refused = soon(stage.client.stream::<u32>("stream.refused", &())).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PermissionDenied));
    let bad = soon(stage.client.stream::<u32>("stream.count", &"many")).await.unwrap_err();
    assert_eq!(bad.code(), Some(Code::InvalidArgument));
    let nobody = soon(stage.client.stream::<u32>("stream.nobody", &())).await.unwrap_err();
    assert!(matches!(nobody, CallError::NoResponders { .. }), "{nobody}");
    let (items, error) = all(stage.client.stream::<String>("stream.count", &2).await.unwrap()).await;
    assert!(items.is_empty() && matches!(error, Some(CallError::Decode(_))), "{error:?}");
}

#[tokio::test]
async fn one_answer_is_a_stream_of_one_and_a_stream_is_not_one_answer() {
    let stage = stage().await;
    let (items, error) = all(stage.client.stream::<u32>("stream.unary", &()).await.unwrap()).await;
    assert!(items == [7] && error.is_none(), "{error:?}");
    let error = stage.client.send::<u32>("stream.count", &3).await.unwrap_err();
    let CallError::Answered(error) = error else { panic!("{error}") };
    assert!(error.status() == 400 && error.message().contains("`stream`"), "{error}");
    let caller = foreign(&stage.server).await;
    for junk in ["", "open", "open 0", "open -1", "open many", "item 1", "open 5 6"] {
        let answer = request_with(&caller, "stream.count", &[("Rpc-Stream", junk)], "3").await;
        assert_eq!(code(&answer), 400, "{junk:?}");
    }
    assert_eq!(&request_with(&caller, "stream.unary", &[("Rpc-Stream", "junk")], "").await.payload[..], b"7");
}

#[tokio::test]
async fn a_slow_reader_slows_its_service_down() {
    let stage = stage().await;
    let mut items = stage.client.window(8).stream::<u64>("stream.endless", &()).await.unwrap();
    let produced = || stage.seen.produced.load(Ordering::SeqCst);
    for number in 1..=50 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
        // What was granted has been sent once the service has answered another call.
        stage.client.send::<u32>("stream.unary", &()).await.unwrap();
        assert!(produced() <= number + 8, "{} items for a reader of {number}", produced());
    }
}

#[tokio::test]
async fn a_stream_that_its_caller_drops_is_dropped_at_the_service() {
    let mut stage = stage().await;
    for subject in ["stream.endless", "stream.gated", "stream.never"] {
        let items = soon(stage.client.stream::<u64>(subject, &())).await.unwrap();
        drop(items);
        soon(stage.ends.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_whose_caller_gives_up_before_it_begins_is_told_so() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.item_timeout(Duration::from_millis(50));
    let error = soon(client.stream::<u32>("fake.stream", &())).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    let call = soon(calls.next()).await.unwrap();
    let mut fake = Fake::new(&service, call.reply.unwrap()).await;
    fake.say("item 1", "1").await;
    assert_eq!(fake.heard().await, "cancel");
}

#[tokio::test]
async fn nats_server_tells_of_a_caller_that_is_gone() {
    let mut stage = stage().await;
    let caller = foreign(&stage.server).await;
    let envelope = |pattern: &str| format!(r#"{{"pattern":"{pattern}","data":0,"id":"88a5f0d6ac4d1830655c1"}}"#);
    for (subject, native) in
        [("stream.gated", true), ("stream.gated", false), ("stream.never", true), ("stream.never", false)]
    {
        let inbox = caller.new_inbox();
        let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
        let (header, body) = if native { ("open 5", String::new()) } else { ("", envelope(subject)) };
        publish(&caller, subject, Some(&inbox), header, body).await;
        if subject == "stream.gated" || native {
            soon(answers.next()).await.unwrap();
        }
        answers.unsubscribe().await.unwrap();
        if subject == "stream.gated" {
            stage.seen.gate.add_permits(1);
        }
        soon(stage.ends.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_connection_ends_a_stream_with_an_error_behind_its_items() {
    let mut stage = stage().await;
    let items = stage.client.stream::<u64>("stream.gated", &()).await.unwrap();
    stage.server.kill();
    soon(stage.client.connection().wait_for(|state| *state == nats_rpc::ConnectionState::Disconnected)).await;
    let (items, error) = all(items).await;
    assert!(items == [0] && matches!(error, Some(CallError::ConnectionLost { .. })), "{items:?} {error:?}");
    let error = soon(stage.client.stream::<u64>("stream.gated", &())).await.unwrap_err();
    assert!(matches!(error, CallError::Disconnected), "{error}");
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_ends_the_others_at_its_limit() {
    let stage = stage().await;
    let mut items = stage.client.stream::<u64>("stream.gated", &()).await.unwrap();
    assert_eq!(items.next().await.unwrap().unwrap(), 0);
    let mut short = stage.client.window(1).stream::<u32>("stream.count", &10).await.unwrap();
    let stopping = stage_stop(stage.service);
    assert_eq!(short.next().await.unwrap().unwrap(), 1);
    let (rest, error) = all(short).await;
    assert!(rest.len() == 9 && error.is_none(), "{error:?}");
    stage.seen.gate.add_permits(2);
    assert_eq!((items.next().await.unwrap().unwrap(), items.next().await.unwrap().unwrap()), (1, 2));
    drop(items);
    soon(stopping).await.unwrap();

    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let stage = stage_with(server(), limits).await;
    let items = stage.client.stream::<u64>("stream.gated", &()).await.unwrap();
    let stopping = stage_stop(stage.service);
    let (items, error) = all(items).await;
    assert_eq!((items, answered(error)), (vec![0], 503));
    soon(stopping).await.unwrap();
}

fn stage_stop(service: Running) -> tokio::task::JoinHandle<()> {
    tokio::spawn(service.stop())
}

#[tokio::test]
async fn a_stream_has_deadlines_for_each_item_and_in_all() {
    let limits = Limits { stream_idle: Duration::from_millis(200), ..Limits::default() };
    let mut stage = stage_with(server(), limits).await;
    // In all, at the service.
    let limited = stage.client.stream::<u64>("stream.limited", &()).await.unwrap();
    let feeding = tokio::spawn({
        let gate = stage.seen.gate.clone();
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                gate.add_permits(1);
            }
        }
    });
    let (items, error) = all(limited).await;
    feeding.abort();
    assert!(items.len() > 1 && answered(error) == 504, "{items:?}");
    soon(stage.ends.recv()).await.unwrap();
    // From item to item: the handler has none, or its caller takes none.
    for subject in ["stream.never", "stream.endless"] {
        let mut items = stage.client.stream::<u64>(subject, &()).await.unwrap();
        if subject == "stream.endless" {
            soon(items.next()).await.unwrap().unwrap();
        }
        soon(stage.ends.recv()).await.unwrap();
        assert_eq!(answered(all(items).await.1), 504, "{subject}");
    }
    // The same at the caller.
    let short = Duration::from_millis(60);
    for client in [stage.client.item_timeout(short), stage.client.stream_timeout(short)] {
        let (_, error) = all(client.stream::<u64>("stream.never", &()).await.unwrap()).await;
        assert!(matches!(error, Some(CallError::TimedOut { after, .. }) if after < short * 2), "{error:?}");
        soon(stage.ends.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn a_panic_and_an_item_too_large_are_errors_of_the_stream() {
    let stage = stage_with(server_with(|builder| builder.config("max_payload: 4KB")), Limits::default()).await;
    let (items, error) = all(stage.client.stream::<u32>("stream.panics", &()).await.unwrap()).await;
    assert_eq!((items, answered(error)), (vec![1, 2], 500));
    let (items, error) = all(stage.client.stream::<u32>("stream.bomb", &()).await.unwrap()).await;
    assert_eq!((items, answered(error)), (vec![1, 2], 500));
    let sizes = [10, 4_000, 4_090, 10];
    let (items, error) = all(stage.client.stream::<String>("stream.sizes", &sizes).await.unwrap()).await;
    assert_eq!((items.iter().map(String::len).collect::<Vec<_>>(), answered(error)), (vec![10, 4_000], 413));
    assert_eq!(stage.client.send::<u32>("stream.unary", &()).await.unwrap(), 7, "the service goes on");
}

#[tokio::test]
async fn users_who_may_do_no_more_than_they_need_can_stream() {
    let service = || Service::new("stream", "1.0.0").handlers(handlers![count]).streams();
    let config = format!(
        r#"authorization {{ users: [
            {{ user: service, password: s, {} }}
            {{ user: caller, password: c, permissions: {{
                publish: "stream.count", subscribe: "_INBOX_caller.>", allow_responses: {{ max: -1, expires: "1m" }}
            }} }}
        ] }}"#,
        service().permissions().unwrap()
    );
    let server = server_with(|builder| builder.config(&config).jetstream(false));
    let user = |name: &str, password, inbox| nats(&server).user(name, password).inbox_prefix(inbox);
    let _service = service().start(user("service", "s", "_INBOX_stream")).await.unwrap();
    let client = Client::connect(&user("caller", "c", "_INBOX_caller")).await.unwrap().item_timeout(PATIENCE);
    let (items, error) = all(client.window(8).stream::<u32>("stream.count", &500).await.unwrap()).await;
    assert!(items.len() == 500 && error.is_none(), "{} items, {error:?}", items.len());
}

#[tokio::test]
async fn ten_thousand_streams_dropped_half_way_leave_nothing_behind() {
    const WAVE: usize = 250;
    let mut stage = stage_with(counting_server(), Limits::default()).await;
    let system = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "s".to_owned());
    let system = system.connect(stage.server.url()).await.unwrap();
    let before = subscriptions(&system).await;
    for wave in 0..40 {
        let opened = (0..WAVE).map(async |index| {
            let mut items = stage.client.window(4).stream::<u64>("stream.endless", &()).await.unwrap();
            for _ in 0..(wave + index) % 6 {
                items.next().await.unwrap().unwrap();
            }
        });
        soon(futures::future::join_all(opened)).await;
        for _ in 0..WAVE {
            soon(stage.ends.recv()).await.unwrap();
        }
    }
    // All places of the handler are free, and so are more than the client has for streams.
    let opened = (0..256).map(async |_| stage.client.stream::<u64>("stream.endless", &()).await.unwrap());
    let items = soon(futures::future::join_all(opened)).await;
    assert_eq!(items.len(), 256);
    drop(items);
    for _ in 0..256 {
        soon(stage.ends.recv()).await.unwrap();
    }
    // One inbox of the service's and one of the caller's, whatever went through them, and the asker's own.
    let after = subscriptions(&system).await;
    assert!(after <= before + 3, "{before} subscriptions became {after}");
}

/// A server that tells what it counts to user `sys`.
fn counting_server() -> NatsServer {
    let config = r#"
        accounts { SYS: { users: [ { user: sys, password: s } ] }, APP: { users: [ { user: app, password: a } ] } }
        system_account: SYS
        no_auth_user: app
    "#;
    server_with(|builder| builder.config(config).jetstream(false))
}

/// How many subscriptions nats-server has, by its own count.
async fn subscriptions(system: &async_nats::Client) -> u64 {
    let counted = soon(system.request("$SYS.REQ.SERVER.PING.SUBSZ", bytes::Bytes::new())).await.unwrap();
    let counted: serde_json::Value = serde_json::from_slice(&counted.payload).unwrap();
    counted["data"]["num_subscriptions"].as_u64().unwrap()
}

// The rest speaks the protocol by hand: callers and services that no library of ours would be.

async fn publish(nats: &async_nats::Client, to: &str, reply: Option<&str>, frame: &str, body: impl Into<bytes::Bytes>) {
    let mut headers = HeaderMap::new();
    if !frame.is_empty() {
        headers.insert("Rpc-Stream", frame);
    }
    if frame.starts_with("error") {
        headers.insert("Nats-Service-Error", "no");
        headers.insert("Nats-Service-Error-Code", "409");
    }
    let (to, body) = (to.to_owned(), body.into());
    match reply {
        Some(reply) => nats.publish_with_reply_and_headers(to, reply.to_owned(), headers, body).await.unwrap(),
        None => nats.publish_with_headers(to, headers, body).await.unwrap(),
    }
    nats.flush().await.unwrap();
}

fn frame(message: &Message) -> &str {
    message.headers.as_ref().and_then(|headers| headers.get("Rpc-Stream")).map_or("", |value| value.as_str())
}

/// A service that does as it is told.
struct Fake {
    nats: async_nats::Client,
    caller: String,
    address: String,
    credit: Subscriber,
    /// Whose inbox is to stay.
    client: Option<Client>,
}

impl Fake {
    async fn new(nats: &async_nats::Client, caller: async_nats::Subject) -> Self {
        let address = nats.new_inbox();
        let credit = nats.subscribe(address.clone()).await.unwrap();
        Self { nats: nats.clone(), caller: caller.to_string(), address, credit, client: None }
    }

    async fn say(&mut self, frame: &str, body: &'static str) {
        publish(&self.nats, &self.caller, Some(&self.address), frame, body).await;
    }

    async fn heard(&mut self) -> String {
        frame(&soon(self.credit.next()).await.unwrap()).to_owned()
    }
}

/// A call to a fake service, which has answered with one item.
async fn faked() -> (NatsServer, nats_rpc::Incoming<u32>, Fake) {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.window(4).item_timeout(PATIENCE);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.stream::<u32>("fake.stream", &()).await.unwrap() }
    });
    let asked = soon(calls.next()).await.unwrap();
    assert_eq!(frame(&asked), "open 4");
    let mut fake = Fake::new(&service, asked.reply.unwrap()).await;
    fake.client = Some(client);
    fake.say("item 1", "1").await;
    (server, soon(call).await.unwrap(), fake)
}

#[tokio::test]
async fn a_message_missed_repeated_or_not_granted_ends_the_stream_with_an_error() {
    for wrong in ["item 1", "item 3", "end 1", "end 3", "error 3", "ask 2", "ask 0"] {
        let (_server, items, mut fake) = faked().await;
        fake.say(wrong, "2").await;
        let (items, error) = all(items).await;
        assert!(items == [1] && matches!(error, Some(CallError::Broken { .. })), "{wrong}: {items:?} {error:?}");
        assert_eq!(fake.heard().await, "cancel", "{wrong}");
    }
    let (_server, items, mut fake) = faked().await;
    for flood in ["item 2", "item 3", "item 4", "item 5"] {
        fake.say(flood, "2").await;
    }
    // Before an item is taken, for then more would be granted.
    assert_eq!(fake.heard().await, "cancel");
    let (items, error) = all(items).await;
    assert!(items == [1, 2, 2, 2] && matches!(error, Some(CallError::Broken { .. })), "{items:?} {error:?}");
}

#[tokio::test]
async fn what_others_send_to_the_inbox_changes_nothing() {
    let (_server, items, mut fake) = faked().await;
    let mut other = Fake::new(&fake.nats, fake.caller.clone().into()).await;
    // Another instance, one that names no inbox, one that names none at all, and none of ours.
    other.say("item 2", "666").await;
    assert_eq!(other.heard().await, "cancel");
    for reply in [Some("admin.reset"), None] {
        for said in ["item 2", "end 2", "error 2", "ask 7", "", "cancel", "credit 5", "open 3", "nonsense"] {
            publish(&fake.nats, &fake.caller, reply, said, "666").await;
        }
    }
    fake.say("ask 1", "").await;
    assert_eq!(fake.heard().await, "credit 4");
    fake.say("item 2", "2").await;
    fake.say("end 3", "").await;
    let (items, error) = all(items).await;
    assert!(items == [1, 2] && error.is_none(), "{items:?} {error:?}");
    // After the end nothing is said but that nobody listens.
    fake.say("item 4", "4").await;
    let heard = fake.heard().await;
    let heard = if heard == "credit 6" { fake.heard().await } else { heard };
    assert_eq!(heard, "cancel");
}

#[tokio::test]
async fn a_service_that_names_no_inbox_is_not_talked_to() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    let mut victim = service.subscribe("admin.reset").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await;
    for reply in [Some("admin.reset"), None] {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.stream::<u32>("fake.stream", &()).await }
        });
        let caller = soon(calls.next()).await.unwrap().reply.unwrap();
        publish(&service, &caller, reply, "item 1", "1").await;
        let error = soon(call).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Broken { .. }), "{error}");
    }
    client.connection().echo(PATIENCE).await.unwrap();
    publish(&service, "admin.reset", None, "mine", "").await;
    assert_eq!(frame(&soon(victim.next()).await.unwrap()), "mine");
}

#[tokio::test]
async fn a_service_that_falls_silent_is_known_by_its_silence() {
    let (_server, items, fake) = faked().await;
    let (items, error) = all(items).await;
    assert!(items == [1] && matches!(error, Some(CallError::Broken { .. })), "{items:?} {error:?}");
    drop(fake);
}

#[tokio::test]
async fn an_error_of_a_foreign_service_is_read() {
    let (_server, items, mut fake) = faked().await;
    fake.say("error 2", r#"{"code":"TAKEN","message":"taken","details":[1]}"#).await;
    let (_, error) = all(items).await;
    let Some(CallError::Answered(error)) = error else { panic!("{error:?}") };
    assert_eq!((error.status(), error.message(), error.name()), (409, "taken", Some("TAKEN")));
}

#[tokio::test]
async fn no_credit_makes_a_service_run_ahead_without_end() {
    let mut stage = stage().await;
    let caller = foreign(&stage.server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    publish(&caller, "stream.endless", Some(&inbox), &format!("open {}", u64::MAX), "").await;
    let first = soon(answers.next()).await.unwrap();
    let address = first.reply.clone().unwrap();
    let mut last = 1;
    while last < 1_024 {
        last = number(&soon(answers.next()).await.unwrap());
    }
    // It waits; what is no credit, or less than before, changes nothing.
    for said in ["credit 3", "credit -1", "credit", "item 2000", "", "end 1"] {
        publish(&caller, &address, None, said, "").await;
    }
    let probe = soon(answers.next()).await.unwrap();
    assert_eq!(frame(&probe), "ask 1024");
    assert_eq!(stage.seen.produced.load(Ordering::SeqCst), 1_024);
    publish(&caller, &address, None, &format!("credit {}", u64::MAX), "").await;
    while last < 2_048 {
        let next = soon(answers.next()).await.unwrap();
        if frame(&next).starts_with("item") {
            last = number(&next);
        }
    }
    publish(&caller, &address, None, "credit 2050", "").await;
    for expected in ["item 2049", "item 2050"] {
        let mut next = soon(answers.next()).await.unwrap();
        while frame(&next).starts_with("ask") {
            next = soon(answers.next()).await.unwrap();
        }
        assert_eq!(frame(&next), expected);
    }
    // A credit flood is so many messages, and no more items.
    for _ in 0..1_000 {
        caller.publish_with_headers(address.clone(), credit(2_051), bytes::Bytes::new()).await.unwrap();
    }
    let mut next = soon(answers.next()).await.unwrap();
    while frame(&next).starts_with("ask") {
        next = soon(answers.next()).await.unwrap();
    }
    assert_eq!(frame(&next), "item 2051");
    publish(&caller, &address, None, "cancel", "").await;
    soon(stage.ends.recv()).await.unwrap();
}

fn credit(total: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Rpc-Stream", format!("credit {total}"));
    headers
}

fn number(message: &Message) -> u64 {
    frame(message).strip_prefix("item ").expect("an item").parse().unwrap()
}

#[tokio::test]
async fn nestjs_clients_get_a_stream_as_an_observable() {
    let stage = stage_with(server_with(|builder| builder.config("max_payload: 4KB")), Limits::default()).await;
    let caller = foreign(&stage.server).await;
    let ask = async |subject: &str, data: &str, answers: usize| {
        let inbox = caller.new_inbox();
        let mut heard = caller.subscribe(inbox.clone()).await.unwrap();
        let body = format!(r#"{{"pattern":"{subject}","data":{data},"id":"88a5f0d6ac4d1830655c1"}}"#);
        publish(&caller, subject, Some(&inbox), "", body).await;
        let mut bodies = Vec::new();
        for _ in 0..answers {
            let message = soon(heard.next()).await.unwrap();
            let body = String::from_utf8(message.payload.to_vec()).unwrap();
            bodies.push(body.replace(r#""id":"88a5f0d6ac4d1830655c1""#, "ID"));
        }
        bodies
    };
    let three = ask("stream.count", "3", 3).await;
    assert_eq!(three, [r#"{"response":1,ID}"#, r#"{"response":2,ID}"#, r#"{"response":3,"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "1", 1).await, [r#"{"response":1,"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "0", 1).await, [r#"{"isDisposed":true,ID}"#]);
    assert_eq!(ask("stream.count", "2000", 2_000).await[1_999], r#"{"response":2000,"isDisposed":true,ID}"#);
    let err = r#"{"status":404,"code":"NOT_FOUND","message":"there is no 3","details":{"number":3}}"#;
    let failed = ask("stream.fails", "0", 3).await;
    assert_eq!(failed[2], format!(r#"{{"err":{err},"isDisposed":true,ID}}"#));
    let large = ask("stream.sizes", "[1,4096]", 2).await;
    assert!(large[0] == r#"{"response":"x",ID}"# && large[1].contains("PAYLOAD_TOO_LARGE"), "{large:?}");
    let unary = request(&caller, "stream.unary", r#"{"pattern":"stream.unary","data":0,"id":7}"#).await;
    assert_eq!(&unary.payload[..], br#"{"response":7,"isDisposed":true,"id":7}"#);
    // An item is not held back until it is known whether it is the last.
    assert_eq!(ask("stream.gated", "0", 1).await, [r#"{"response":0,ID}"#]);
}
