//! Events: once per service and handler, or to every instance; never answered.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc_tests::server;
use tokio::sync::mpsc;

use crate::support::{client, foreign, nats, soon};

#[derive(Clone)]
struct Log(mpsc::UnboundedSender<(&'static str, u32)>);

#[event_pattern("order.placed")]
async fn bill(State(log): State<Log>, Payload(order): Payload<u32>) {
    let _ = log.0.send(("bill", order));
}

#[event_pattern("order.*")]
async fn audit(State(log): State<Log>, Payload(order): Payload<u32>) {
    let _ = log.0.send(("audit", order));
}

#[event_pattern("order.placed", queue = none)]
async fn cache(State(log): State<Log>, Payload(order): Payload<u32>) {
    let _ = log.0.send(("cache", order));
}

#[event_pattern("order.failing")]
async fn failing() -> Result<(), RpcError> {
    Err(RpcError::internal("broken"))
}

#[tokio::test]
async fn each_handler_gets_an_event_once_per_service_and_without_a_queue_once_per_instance() {
    const ORDERS: u32 = 100;
    let server = server();
    let (log, mut lines) = mpsc::unbounded_channel();
    let mut instances = Vec::new();
    for _ in 0..2 {
        let service = Service::new("orders", "1.0.0").handlers(handlers![bill, audit, cache]).provide(Log(log.clone()));
        instances.push(service.start(nats(&server)).await.unwrap());
    }
    drop(log);
    let client = client(&server).await;
    for order in 0..ORDERS {
        client.emit("order.placed", &order).await.unwrap();
    }
    client.connection().round_trip(crate::support::PATIENCE).await.unwrap();
    for instance in instances {
        instance.stop().await;
    }
    let mut seen = std::collections::HashMap::<_, u32>::new();
    while let Some(line) = soon(lines.recv()).await {
        *seen.entry(line).or_default() += 1;
    }
    for order in 0..ORDERS {
        let times = ["bill", "audit", "cache"].map(|handler| seen[&(handler, order)]);
        assert_eq!(times, [1, 1, 2], "order {order}");
    }
}

#[tokio::test]
async fn an_event_is_answered_only_to_a_nestjs_caller_who_mistook_it_for_a_request() {
    let server = server();
    let (log, _lines) = mpsc::unbounded_channel();
    let service = Service::new("orders", "1.0.0").handlers(handlers![bill, failing]).provide(Log(log));
    let service = service.start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    let bodies =
        ["1", "nonsense", r#"{"pattern":"order.placed","data":1}"#, r#"{"pattern":"order.placed","data":1,"id":"x"}"#];
    for body in bodies {
        caller.publish_with_reply("order.placed", inbox.clone(), body.into()).await.unwrap();
    }
    let failing = r#"{"pattern":"order.failing","data":1,"id":"y"}"#;
    let answer = soon(answers.next()).await.unwrap();
    assert_eq!(&answer.payload[..], br#"{"isDisposed":true,"id":"x"}"#);
    caller.publish_with_reply("order.failing", inbox, failing.into()).await.unwrap();
    let answer = soon(answers.next()).await.unwrap();
    assert_eq!(crate::support::code(&answer), 500);
    service.stop().await;
    assert!(futures::FutureExt::now_or_never(answers.next()).is_none());
}

#[event_pattern("order.{id}.lost")]
async fn lost() -> Result<(), RpcError> {
    Err(RpcError::conflict("it was delivered"))
}

/// What was logged, at the level that services log at by default.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn an_event_that_fails_is_logged_with_its_subject_and_counted_and_never_answered() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
    let writer = lines.clone();
    // With one subscriber alone, tracing would ask other tests' threads, which have none, whether anybody listens.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _logging = tracing::subscriber::set_default(subscriber.with_writer(move || writer.clone()).finish());
    let server = server();
    let service =
        Service::new("orders", "1.0.0").handlers(handlers![lost, failing]).start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    for subject in ["order.7.lost", "order.failing"] {
        let body = format!(r#"{{"pattern":"{subject}","data":1}}"#);
        caller.publish(subject, body.clone().into()).await.unwrap();
        caller.publish_with_reply(subject, inbox.clone(), body.into()).await.unwrap();
    }
    let errors = || service.stats().iter().map(|handler| (handler.requests, handler.errors)).collect::<Vec<_>>();
    soon(async {
        while errors() != [(2, 2), (2, 2)] {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    service.stop().await;
    caller.flush().await.unwrap();
    assert!(futures::FutureExt::now_or_never(answers.next()).is_none(), "an event is not answered");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for (level, subject, handler) in [("WARN", "order.7.lost", "lost"), ("ERROR", "order.failing", "failing")] {
        let said = format!(r#"subject="{subject}" handler="{handler}""#);
        let logged = log.lines().filter(|line| line.contains(level) && line.contains(&said)).count();
        assert_eq!(logged, 2, "{said} in {log}");
    }
}

#[message_pattern("order.asked")]
async fn asked() -> &'static str {
    "the answer"
}

/// NestJS's client takes whatever comes first, so a second answer is one too many.
#[tokio::test]
async fn a_nestjs_request_to_an_event_gets_one_answer_from_however_many_handlers() {
    let server = server();
    let (log, mut lines) = mpsc::unbounded_channel();
    let handlers = || handlers![bill, audit, cache, asked];
    let start = async || {
        Service::new("orders", "1.0.0")
            .handlers(handlers())
            .provide(Log(log.clone()))
            .start(nats(&server))
            .await
            .unwrap()
    };
    let instances = [start().await, start().await];
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    for subject in ["order.placed", "order.other", "order.asked"] {
        let body = format!(r#"{{"pattern":"{subject}","data":7,"id":"{subject}"}}"#);
        caller.publish_with_reply(subject, inbox.clone(), body.into()).await.unwrap();
    }
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(String::from_utf8(soon(answers.next()).await.unwrap().payload.to_vec()).unwrap());
    }
    for instance in instances {
        instance.stop().await;
    }
    caller.flush().await.unwrap();
    assert!(futures::FutureExt::now_or_never(answers.next()).is_none(), "one answer too many after {heard:?}");
    heard.sort();
    let expected = [
        r#"{"isDisposed":true,"id":"order.other"}"#,
        r#"{"response":"the answer","isDisposed":true,"id":"order.asked"}"#,
        r#"{"response":{},"isDisposed":true,"id":"order.placed"}"#,
    ];
    assert_eq!(heard, expected);
    let mut ran = Vec::new();
    while let Ok((handler, _)) = lines.try_recv() {
        ran.push(handler);
    }
    ran.sort_unstable();
    assert_eq!(ran, ["audit", "audit", "audit", "bill", "cache", "cache"], "all of them run all the same");
}
