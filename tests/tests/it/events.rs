//! Events: once per service and handler, or to every instance; never answered.

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
    client.connection().echo(crate::support::PATIENCE).await.unwrap();
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
    assert_eq!(&answer.payload[..], br#"{"response":{},"isDisposed":true,"id":"x"}"#);
    caller.publish_with_reply("order.failing", inbox, failing.into()).await.unwrap();
    let answer = soon(answers.next()).await.unwrap();
    assert_eq!(crate::support::code(&answer), 500);
    service.stop().await;
    assert!(futures::FutureExt::now_or_never(answers.next()).is_none());
}
