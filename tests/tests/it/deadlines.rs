//! Late work is not started, not continued, and not passed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client};
use nats_rpc_tests::server;
use tokio::sync::mpsc;

use crate::support::{PATIENCE, client, code, foreign, nats, request_with, soon};

#[derive(Clone)]
struct Log(mpsc::UnboundedSender<&'static str>);

/// Tells when the handler that holds it ends, however it does.
struct Ends(Log);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.0.send("ended");
    }
}

#[message_pattern("late.never")]
async fn never(State(log): State<Log>) {
    let _ends = Ends(log.clone());
    let _ = log.0.send("started");
    std::future::pending::<()>().await;
}

#[message_pattern("late.limited", timeout_ms = 50)]
async fn limited(State(log): State<Log>) {
    never(State(log)).await;
}

#[message_pattern("late.stubborn", timeout_ms = 20, run_to_completion)]
async fn stubborn() -> &'static str {
    tokio::time::sleep(Duration::from_millis(120)).await;
    "done all the same"
}

/// What is left of the deadline where the call arrives, in milliseconds.
#[message_pattern("late.left")]
async fn left(headers: Headers) -> Option<u64> {
    headers.get(nats_rpc::TIMEOUT_HEADER)?.parse().ok()
}

#[message_pattern("late.nested")]
async fn nested(State(client): State<Client>) -> Result<Option<u64>, RpcError> {
    Ok(client.send("late.left", &()).await?)
}

#[message_pattern("late.thorough", timeout_ms = 20, run_to_completion)]
async fn thorough(State(client): State<Client>, State(log): State<Log>) -> Result<(), RpcError> {
    tokio::time::sleep(Duration::from_millis(60)).await;
    client.send::<Option<u64>>("late.left", &()).await?;
    client.emit("late.nobody", &()).await?;
    let _ = log.0.send("called");
    Ok(())
}

async fn start(
    server: &nats_rpc::testing::NatsServer,
) -> (nats_rpc::ServiceHandle, mpsc::UnboundedReceiver<&'static str>) {
    let (log, lines) = mpsc::unbounded_channel();
    let service = Service::new("late", "1.0.0")
        .handlers(handlers![never, limited, stubborn, left, nested, thorough])
        .provide(Log(log))
        .provide_with(async |context: ServiceContext| Ok::<_, RpcError>(Client::new(context.connection().clone())));
    (service.start(nats(server)).await.unwrap(), lines)
}

#[tokio::test]
async fn a_handler_is_cancelled_at_the_callers_deadline_or_its_own() {
    let server = server();
    let (_service, mut log) = start(&server).await;
    let caller = foreign(&server).await;
    for (subject, headers) in [("late.never", &[("Rpc-Timeout-Ms", "40")][..]), ("late.limited", &[])] {
        assert_eq!(code(&request_with(&caller, subject, headers, "").await), 504);
        assert_eq!((log.recv().await, log.recv().await), (Some("started"), Some("ended")));
    }
}

#[tokio::test]
async fn a_request_past_its_deadline_never_reaches_the_handler() {
    let server = server();
    let (_service, mut log) = start(&server).await;
    let caller = foreign(&server).await;
    let minute_ago = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - Duration::from_secs(60);
    let minute_ago = minute_ago.as_millis().to_string();
    for headers in [[("Rpc-Deadline", minute_ago.as_str())], [("Rpc-Timeout-Ms", "0")]] {
        assert_eq!(code(&request_with(&caller, "late.never", &headers, "").await), 504);
    }
    assert!(log.try_recv().is_err(), "it started");
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_answered_504_without_being_started() {
    static STARTS: AtomicU32 = AtomicU32::new(0);

    #[message_pattern("late.one", concurrency = 1)]
    async fn one(State(release): State<Arc<tokio::sync::Semaphore>>) -> Result<(), RpcError> {
        STARTS.fetch_add(1, Ordering::SeqCst);
        release.acquire().await.internal()?.forget();
        Ok(())
    }

    let server = server();
    let release = Arc::new(tokio::sync::Semaphore::new(0));
    let service = Service::new("late", "1.0.0").handlers(handlers![one]).provide(release.clone());
    let _service = service.start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.send::<()>("late.one", &()).await }
    });
    soon(async {
        while STARTS.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let caller = foreign(&server).await;
    assert_eq!(code(&request_with(&caller, "late.one", &[("Rpc-Timeout-Ms", "30")], "").await), 504);
    release.add_permits(1);
    soon(first).await.unwrap().unwrap();
    assert_eq!(STARTS.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_handler_that_says_so_goes_on_after_its_deadline() {
    let server = server();
    let (_service, _log) = start(&server).await;
    let answer: String = client(&server).await.send("late.stubborn", &()).await.unwrap();
    assert_eq!(answer, "done all the same");
}

#[tokio::test]
async fn a_call_made_from_a_handler_inherits_what_is_left() {
    let server = server();
    let (_service, _log) = start(&server).await;
    let client = client(&server).await;
    let plain: Option<u64> = client.timeout(Duration::from_secs(9)).send("late.left", &()).await.unwrap();
    assert!((8_000..=9_000).contains(&plain.unwrap()), "{plain:?}");
    // The client in the handler would wait for 5 s of its own.
    let inherited: Option<u64> = client.timeout(Duration::from_secs(3)).send("late.nested", &()).await.unwrap();
    assert!(inherited.unwrap() <= 3_000, "{inherited:?}");
}

#[tokio::test]
async fn a_call_ends_by_its_deadline_whatever_the_service_does() {
    let server = server();
    let caller = foreign(&server).await;
    let _silent = caller.subscribe("late.silent").await.unwrap();
    soon(caller.flush()).await.unwrap();
    let client = client(&server).await.timeout(Duration::from_millis(60));
    let error = soon(client.send::<()>("late.silent", &())).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: true, .. }), "{error}");
}

#[tokio::test]
async fn handler_that_runs_to_completion_calls_after_its_deadline() {
    let server = server();
    let (_running, mut lines) = start(&server).await;
    let _ = client(&server).await.send::<()>("late.thorough", &()).await;
    assert_eq!(soon(lines.recv()).await, Some("called"));
}

#[tokio::test]
async fn call_without_time_left_is_not_published() {
    let server = server();
    let caller = foreign(&server).await;
    let mut heard = caller.subscribe("late.heard").await.unwrap();
    caller.flush().await.unwrap();
    let client = client(&server).await.timeout(Duration::ZERO);
    let error = client.send::<()>("late.heard", &()).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: false, .. }), "{error}");
    let error = client.emit("late.heard", &()).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { sent: false, .. }), "{error}");
    client.timeout(PATIENCE).emit("late.heard", &"last").await.unwrap();
    assert_eq!(&soon(heard.next()).await.unwrap().payload[..], b"\"last\"");
}

/// A client has 4,096 calls in flight at most.
#[tokio::test]
async fn call_that_finds_no_room_is_not_sent() {
    const ROOM: usize = 4_096;
    let server = server();
    let caller = foreign(&server).await;
    let silent = caller.subscribe("late.silent").await.unwrap();
    caller.flush().await.unwrap();
    let client = client(&server).await;
    let mut calls: FuturesUnordered<_> = (0..ROOM).map(|_| client.send::<()>("late.silent", &())).collect();
    let brief = client.clone().timeout(Duration::from_millis(100));
    let late = async {
        soon(silent.take(ROOM).collect::<Vec<_>>()).await;
        brief.send::<()>("late.silent", &()).await.unwrap_err()
    };
    let error = tokio::select! {
        ended = calls.next() => panic!("nothing replies: {ended:?}"),
        error = late => error,
    };
    assert!(matches!(error, CallError::TimedOut { sent: false, .. }), "{error}");
}
