//! A stop loses nothing, and what that rests on still holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use nats_rpc::Limits;
use nats_rpc::prelude::*;
use nats_rpc_tests::server;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{PATIENCE, client, code, foreign, nats, soon};

/// The client's half: async-nats keeps a subscription whose count it never reaches. The server here sends
/// three messages *after* it has read the UNSUB.
#[tokio::test]
async fn messages_sent_after_the_unsub_was_read_still_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let script = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let info = r#"{"server_id":"S","version":"2.15.1","go":"go","host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"proto":1}"#;
        socket.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let (read, mut write) = socket.split();
        let mut lines = BufReader::new(read).lines();
        let mut sid = String::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            let mut words = line.split(' ');
            match words.next() {
                Some("PING") => write.write_all(b"PONG\r\n").await.unwrap(),
                Some("SUB") => sid = words.next_back().unwrap().to_owned(),
                Some("UNSUB") if line.ends_with(&u64::MAX.to_string()) => {
                    for number in 0..3 {
                        write.write_all(format!("MSG s {sid} 1\r\n{number}\r\n").as_bytes()).await.unwrap();
                    }
                }
                _ => {}
            }
        }
    });
    let nats = async_nats::connect(url).await.unwrap();
    let mut subscription = nats.subscribe("s").await.unwrap();
    subscription.unsubscribe_after(u64::MAX).await.unwrap();
    for number in 0..3 {
        let message = soon(subscription.next()).await.unwrap();
        assert_eq!(message.payload, Bytes::from(number.to_string()));
    }
    drop((nats, subscription));
    soon(script).await.unwrap();
}

/// The server's half: it ends a subscription at once on a count that it cannot parse, also after the
/// subscription has received messages and been renewed by a reconnect.
#[tokio::test]
async fn the_server_ends_a_subscription_at_once_on_an_over_long_count() {
    let server = server();
    let nats = foreign(&server).await;
    let other = foreign(&server).await;
    let mut subscription = nats.subscribe("probe").await.unwrap();
    for _ in 0..1_000 {
        nats.publish("probe", Bytes::new()).await.unwrap();
    }
    soon(subscription.by_ref().take(1_000).count()).await;
    nats.force_reconnect().await.unwrap();
    let renewed = async {
        while other
            .request("probe", Bytes::new())
            .await
            .is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders)
        {}
    };
    let answering = async {
        let message = subscription.next().await.unwrap();
        nats.publish(message.reply.unwrap(), Bytes::new()).await.unwrap();
    };
    soon(futures::future::join(renewed, answering)).await;
    subscription.unsubscribe_after(u64::MAX).await.unwrap();
    let inbox = nats.new_inbox();
    let mut echo = nats.subscribe(inbox.clone()).await.unwrap();
    nats.publish(inbox, Bytes::new()).await.unwrap();
    soon(echo.next()).await.unwrap();
    let error = soon(other.request("probe", Bytes::new())).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[message_pattern("stop.work")]
async fn work() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

fn worker() -> Service {
    Service::new("stop", "1.0.0").handlers(handlers![work])
}

/// Instances are replaced under load; no caller retries and none is left without an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_load_loses_no_request() {
    const ROUNDS: usize = 5;
    const CALLERS: usize = 16;
    let server = server();
    let mut instances =
        vec![worker().start(nats(&server)).await.unwrap(), worker().start(nats(&server)).await.unwrap()];
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (client, done, answered) = (client(&server).await, done.clone(), answered.clone());
        callers.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                client.send::<()>("stop.work", &()).await?;
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, nats_rpc::CallError>(())
        }));
    }
    for _ in 0..ROUNDS {
        let before = answered.load(Ordering::Relaxed);
        instances.push(worker().start(nats(&server)).await.unwrap());
        soon(instances.remove(0).stop()).await;
        soon(async {
            while answered.load(Ordering::Relaxed) < before + 200 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        soon(caller).await.unwrap().unwrap();
    }
}

#[message_pattern("stop.gate")]
async fn gate(
    State(release): State<Arc<Semaphore>>,
    State(started): State<mpsc::UnboundedSender<()>>,
) -> Result<(), RpcError> {
    started.send(()).internal()?;
    release.acquire().await.internal()?.forget();
    Ok(())
}

#[tokio::test]
async fn handlers_that_run_are_finished_and_their_callers_answered() {
    let server = server();
    let release = Arc::new(Semaphore::new(0));
    let (started, mut starts) = mpsc::unbounded_channel::<()>();
    let service = Service::new("stop", "1.0.0").handlers(handlers![gate]).provide(release.clone()).provide(started);
    let running = service.start(nats(&server)).await.unwrap();
    let mut status = running.status();
    let client = client(&server).await;
    let call = tokio::spawn(async move { client.send::<()>("stop.gate", &()).await });
    soon(starts.recv()).await.unwrap();
    let stopping = tokio::spawn(running.stop());
    soon(status.changed()).await.unwrap();
    release.add_permits(1);
    soon(call).await.unwrap().unwrap();
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn at_the_drain_limit_what_still_runs_is_answered_503() {
    let server = server();
    let (started, mut starts) = mpsc::unbounded_channel::<()>();
    let limits = Limits { shutdown_timeout: Duration::from_millis(50), ..Limits::default() };
    let service = Service::new("stop", "1.0.0")
        .handlers(handlers![gate])
        .provide(Arc::new(Semaphore::new(0)))
        .provide(started)
        .limits(limits);
    let running = service.start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    caller.publish_with_reply("stop.gate", inbox, Bytes::new()).await.unwrap();
    soon(starts.recv()).await.unwrap();
    soon(running.stop()).await;
    assert_eq!(code(&soon(answers.next()).await.unwrap()), 503);
}

#[tokio::test]
async fn a_stop_ends_even_while_the_server_is_away() {
    let mut server = server();
    let running = worker().start(nats(&server)).await.unwrap();
    server.kill();
    tokio::time::timeout(PATIENCE, running.stop()).await.unwrap();
}
