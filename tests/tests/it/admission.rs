//! Permits, a short backlog, then 503 at once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use nats_rpc::Limits;
use nats_rpc::prelude::*;
use nats_rpc_tests::server;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{PATIENCE, code, foreign, nats, request, soon};

/// Handlers report their start and wait for a permit to end.
#[derive(Clone)]
struct Gate {
    started: mpsc::UnboundedSender<u32>,
    release: Arc<Semaphore>,
}

#[message_pattern("gate.pass", concurrency = 2)]
async fn pass(State(gate): State<Gate>, Payload(number): Payload<u32>) -> Result<u32, RpcError> {
    gate.started.send(number).internal()?;
    gate.release.acquire().await.internal()?.forget();
    Ok(number)
}

#[tokio::test]
async fn what_finds_the_backlog_full_is_answered_503_and_the_rest_in_order() {
    let server = server();
    let (started, mut starts) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let gate = Gate { started, release: release.clone() };
    let limits = Limits { backlog: 3, ..Limits::default() };
    let service = Service::new("gate", "1.0.0").handlers(handlers![pass]).provide(gate).limits(limits);
    let service = service.start(nats(&server)).await.unwrap();

    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    for number in 0..8 {
        caller.publish_with_reply("gate.pass", inbox.clone(), number.to_string().into()).await.unwrap();
    }
    // 2 run, 3 wait, 3 are turned away before any of them is done.
    for _ in 0..3 {
        assert_eq!(code(&soon(answers.next()).await.unwrap()), 503);
    }
    assert_eq!((starts.recv().await, starts.recv().await), (Some(0), Some(1)));
    assert!(starts.try_recv().is_err(), "no third handler starts");
    release.add_permits(5);
    let mut done: Vec<u32> = Vec::new();
    for _ in 0..5 {
        let answer = soon(answers.next()).await.unwrap();
        assert_eq!(code(&answer), 0);
        done.push(serde_json::from_slice(&answer.payload).unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, [0, 1, 2, 3, 4]);
    assert_eq!(service.stats()[0].shed, 3);
    // All permits are back.
    release.add_permits(1);
    caller.publish_with_reply("gate.pass", inbox, "9".into()).await.unwrap();
    assert_eq!(code(&soon(answers.next()).await.unwrap()), 0);
}

#[message_pattern("gate.quick")]
async fn quick() -> &'static str {
    tokio::task::yield_now().await;
    "quick"
}

#[tokio::test]
async fn handlers_that_hang_on_all_permits_do_not_keep_another_from_its_turn() {
    let server = server();
    let (started, mut starts) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let gate = Gate { started, release: release.clone() };
    let limits = Limits { in_flight: 2, ..Limits::default() };
    let service = Service::new("gate", "1.0.0").handlers(handlers![pass, quick]).provide(gate).limits(limits);
    let _service = service.start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    for number in 0..4 {
        caller.publish_with_reply("gate.pass", "_INBOX.nobody", number.to_string().into()).await.unwrap();
    }
    assert_eq!((soon(starts.recv()).await, soon(starts.recv()).await), (Some(0), Some(1)));
    assert_eq!(&request(&caller, "gate.quick", "").await.payload[..], b"\"quick\"");
    release.add_permits(4);
}

/// How long one computation takes: longer than a loop works before it looks what waits.
const COMPUTES: Duration = Duration::from_millis(60);

#[derive(Clone)]
struct Computer {
    started: mpsc::UnboundedSender<()>,
    gate: Arc<std::sync::Barrier>,
}

/// Never yields: it is done at its first poll. Number 0 waits at a gate, on its thread.
#[message_pattern("gate.compute")]
async fn compute(State(computer): State<Computer>, Payload(number): Payload<u32>) -> Result<u32, RpcError> {
    if number == 0 {
        computer.started.send(()).internal()?;
        computer.gate.wait();
    }
    std::thread::sleep(COMPUTES);
    Ok(number)
}

/// They wait in the channel of async-nats, where nobody counts them, until the loop takes them in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_handler_that_only_computes_is_counted_too() {
    let server = server();
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(std::sync::Barrier::new(2));
    let limits = Limits { backlog: 3, ..Limits::default() };
    let service = Service::new("gate", "1.0.0")
        .handlers(handlers![compute])
        .provide(Computer { started, gate: gate.clone() })
        .limits(limits)
        .start(nats(&server))
        .await
        .unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    let ask = async |number: u32| {
        caller.publish_with_reply("gate.compute", inbox.clone(), number.to_string().into()).await.unwrap();
    };
    ask(0).await;
    soon(starts.recv()).await.unwrap();
    for number in 1..10 {
        ask(number).await;
    }
    // What the caller has sent is with the server, and then with the service.
    caller.flush().await.unwrap();
    let echoed = caller.new_inbox();
    let mut echo = caller.subscribe(echoed.clone()).await.unwrap();
    caller.publish(echoed, "".into()).await.unwrap();
    soon(echo.next()).await.unwrap();
    service.connection().round_trip(PATIENCE).await.unwrap();
    tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();

    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(code(&soon(answers.next()).await.unwrap()));
    }
    // The loop looks up after two: of the eight that wait then, three have a place.
    assert_eq!(codes, [0, 0, 503, 503, 503, 503, 503, 0, 0, 0]);
    assert_eq!(service.stats()[0].shed, 5);
    ask(10).await;
    assert_eq!(code(&soon(answers.next()).await.unwrap()), 0, "the overload is over");
}
