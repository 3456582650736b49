//! A service spread over threads, and work that would hold one up.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc_tests::server;

use crate::support::{client, foreign, nats, soon};

type Threads = Arc<Mutex<HashSet<String>>>;

#[message_pattern("shard.work")]
async fn work(State(threads): State<Threads>) {
    threads.lock().unwrap().insert(std::thread::current().name().unwrap().to_owned());
}

#[message_pattern("shard.heavy")]
async fn heavy() -> Result<String, RpcError> {
    nats_rpc::spawn_blocking(|| std::thread::current().name().unwrap().to_owned()).await
}

#[message_pattern("shard.broken")]
async fn broken() -> Result<(), RpcError> {
    nats_rpc::spawn_blocking(|| panic!("hunter2")).await
}

#[tokio::test]
async fn the_threads_share_the_messages_and_each_is_answered_once() {
    let server = server();
    let threads = Threads::default();
    let service = Service::new("shard", "1.0.0").handlers(handlers![work]).provide(threads.clone()).shards(3);
    let running = service.start(nats(&server)).await.unwrap();
    running.check(crate::support::PATIENCE).await.unwrap();
    let client = client(&server).await;
    for _ in 0..200 {
        client.send::<()>("shard.work", &()).await.unwrap();
    }
    let expected: HashSet<_> = (0..3).map(|number| format!("shard-{number}")).collect();
    assert_eq!(*threads.lock().unwrap(), expected);
    assert_eq!(running.stats()[0].requests, 200);
    soon(running.stop()).await;
    let error = client.no_responders_timeout(Duration::ZERO).send::<()>("shard.work", &()).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::NoResponders { .. }), "{error}");
}

#[derive(Clone, Default)]
struct Load {
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

impl Load {
    async fn work(&self) {
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.all.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[message_pattern("shard.each", queue = none)]
async fn each(State(load): State<Load>) {
    load.work().await;
}

#[message_pattern("shard.one", concurrency = 1)]
async fn one(State(load): State<Load>) {
    load.work().await;
}

#[message_pattern("shard.four", concurrency = 4)]
async fn four(State(load): State<Load>) {
    load.work().await;
}

/// Each shard has a connection, and each subscription without a queue group gets each message.
#[tokio::test]
async fn handler_without_queue_group_runs_once() {
    let server = server();
    let load = Load::default();
    let service = Service::new("shard", "1.0.0").handlers(handlers![each, one]).provide(load.clone()).shards(3);
    let running = service.start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    let mut replies = caller.subscribe("_INBOX.each").await.unwrap();
    for _ in 0..10 {
        caller.publish_with_reply("shard.each", "_INBOX.each", "".into()).await.unwrap();
    }
    for _ in 0..10 {
        soon(replies.next()).await.unwrap();
    }
    soon(running.check(crate::support::PATIENCE)).await.unwrap();
    assert_eq!(load.all.load(Ordering::SeqCst), 10);
    assert_eq!(running.stats()[0].requests, 10);
    soon(running.stop()).await;
    assert_eq!(load.all.load(Ordering::SeqCst), 10);
}

#[tokio::test]
async fn concurrency_counts_for_all_shards_together() {
    for (subject, limit) in [("shard.one", 1), ("shard.four", 4)] {
        let server = server();
        let load = Load::default();
        let service = Service::new("shard", "1.0.0").handlers(handlers![one, four]).provide(load.clone()).shards(3);
        let running = service.start(nats(&server)).await.unwrap();
        let client = client(&server).await;
        let calls = (0..40).map(|_| client.send::<()>(subject, &()));
        soon(futures::future::try_join_all(calls)).await.unwrap();
        assert_eq!(load.all.load(Ordering::SeqCst), 40);
        assert!(load.most.load(Ordering::SeqCst) <= limit, "{} of {limit}", load.most.load(Ordering::SeqCst));
        soon(running.stop()).await;
    }
}

#[tokio::test]
async fn heavy_work_runs_elsewhere_and_its_panic_is_a_500() {
    let server = server();
    let service = Service::new("shard", "1.0.0").handlers(handlers![heavy, broken]);
    let _running = service.start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    let thread: String = client.send("shard.heavy", &()).await.unwrap();
    assert_ne!(Some(thread.as_str()), std::thread::current().name());
    let error = client.send::<()>("shard.broken", &()).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Internal));
}

#[message_pattern("shard.burn")]
async fn burn() {
    std::thread::sleep(Duration::from_millis(25));
}

/// What the log says of a handler that holds up its thread.
#[derive(Default)]
struct Reports(Mutex<Vec<String>>);

impl tracing::Subscriber for Reports {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);

        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }

        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_handler_that_holds_up_its_thread_is_reported_once() {
    let reports = Arc::new(Reports::default());
    // The runtime of the test has one thread, so the loops of the service log to this.
    let _log = tracing::subscriber::set_default(reports.clone());
    let server = server();
    let service = Service::new("shard", "1.0.0").handlers(handlers![burn]);
    let _running = service.start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    for _ in 0..3 {
        client.send::<()>("shard.burn", &()).await.unwrap();
    }
    let reports = reports.0.lock().unwrap();
    let about: Vec<_> = reports.iter().filter(|line| line.contains("held up its thread")).collect();
    assert_eq!(about.len(), 1, "{reports:?}");
    assert!(about[0].contains("burn"), "{about:?}");
}
