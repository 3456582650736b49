//! A service spread over threads, and work that would hold one up.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use nats_rpc::prelude::*;
use nats_rpc_tests::server;

use crate::support::{client, nats, soon};

type Threads = Arc<Mutex<HashSet<String>>>;

#[message_pattern("shard.work")]
async fn work(State(threads): State<Threads>) {
    threads.lock().unwrap().insert(std::thread::current().name().unwrap().to_owned());
}

#[message_pattern("shard.heavy")]
async fn heavy() -> Result<String, RpcError> {
    nats_rpc::blocking(|| std::thread::current().name().unwrap().to_owned()).await
}

#[message_pattern("shard.broken")]
async fn broken() -> Result<(), RpcError> {
    nats_rpc::blocking(|| panic!("hunter2")).await
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
    let error = client.patience(std::time::Duration::ZERO).send::<()>("shard.work", &()).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::NoResponders { .. }), "{error}");
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
