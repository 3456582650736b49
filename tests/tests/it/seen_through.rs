//! What a handler has seen through goes on without it, and a stop waits for it.

use std::time::Duration;

use futures::FutureExt;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Limits, ServiceHandle};
use nats_rpc_tests::server;
use tokio::sync::{mpsc, watch};

use crate::support::{client, code, foreign, nats, request_with, soon};

/// Two writes, of which the second takes until it is let go on.
#[derive(Clone)]
struct Writes {
    config: ServiceContext,
    log: mpsc::UnboundedSender<&'static str>,
    go_on: watch::Receiver<bool>,
}

/// Tells when it goes, however that is.
struct Ends(mpsc::UnboundedSender<&'static str>);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.send("ended");
    }
}

#[message_pattern("writes.both")]
async fn both(State(Writes { config, log, mut go_on }): State<Writes>) -> Result<&'static str, RpcError> {
    let work = async move {
        let _ends = Ends(log.clone());
        let _ = log.send("first");
        go_on.wait_for(|go_on| *go_on).await.unwrap();
        let _ = log.send("second");
        "both"
    };
    config.spawn_detached("two writes", work).await
}

#[message_pattern("writes.broken")]
async fn broken(State(Writes { config, .. }): State<Writes>) -> Result<(), RpcError> {
    config.spawn_detached("a broken write", async { panic!("broken") }).await
}

struct Bed {
    running: ServiceHandle,
    log: mpsc::UnboundedReceiver<&'static str>,
    go_on: watch::Sender<bool>,
    server: NatsServer,
}

impl Bed {
    async fn start(drain: Duration, shards: usize) -> Self {
        Self::start_with(Limits { shutdown_timeout: drain, ..Limits::default() }, shards).await
    }

    async fn start_with(limits: Limits, shards: usize) -> Self {
        let server = server();
        let (tell, log) = mpsc::unbounded_channel();
        let (go_on, waiting) = watch::channel(false);
        let service = Service::new("writes", "1.0.0")
            .handlers(handlers![both, broken])
            .provide_with(async |config| Ok::<_, RpcError>(Writes { config, log: tell, go_on: waiting }))
            .limits(limits)
            .shards(shards);
        Self { running: service.start(nats(&server)).await.unwrap(), log, go_on, server }
    }

    /// A call whose time is over when the first write is done.
    async fn call_in_vain(&mut self) {
        let caller = foreign(&self.server).await;
        assert_eq!(code(&request_with(&caller, "writes.both", &[("Rpc-Timeout-Ms", "300")], "").await), 504);
        assert_eq!(soon(self.log.recv()).await, Some("first"));
        assert!(self.log.try_recv().is_err(), "it goes on without its handler");
    }
}

#[tokio::test]
async fn what_is_seen_through_goes_on_when_its_handler_is_cancelled_and_answers_whoever_waits() {
    let mut bed = Bed::start(Duration::from_secs(30), 1).await;
    bed.call_in_vain().await;
    bed.go_on.send_replace(true);
    for told in ["second", "ended"] {
        assert_eq!(soon(bed.log.recv()).await, Some(told));
    }
    let client = client(&bed.server).await;
    assert_eq!(client.send::<String>("writes.both", &()).await.unwrap(), "both");
    let failed = client.send::<()>("writes.broken", &()).await.unwrap_err();
    assert_eq!(failed.code(), Some(Code::Internal));
}

#[tokio::test]
async fn a_stop_waits_for_what_is_seen_through_also_where_its_handlers_ran_on_threads_that_end() {
    for shards in [1, 2] {
        let mut bed = Bed::start(Duration::from_secs(30), shards).await;
        bed.call_in_vain().await;
        let mut status = bed.running.status();
        let mut stop = Box::pin(bed.running.stop());
        let stopping = async { status.wait_for(|status| *status == nats_rpc::Status::Stopping).await.map(drop) };
        tokio::select! {
            () = &mut stop => panic!("it waits for nothing"),
            stopping = stopping => stopping.unwrap(),
        }
        // Long enough for a stop that has nothing to wait for.
        assert!(tokio::time::timeout(Duration::from_millis(500), &mut stop).await.is_err(), "it waits for nothing");
        bed.go_on.send_replace(true);
        soon(stop).await;
        for told in ["second", "ended"] {
            assert_eq!(bed.log.recv().now_or_never().flatten(), Some(told), "{shards} shards");
        }
    }
}

#[tokio::test]
async fn at_the_drain_limit_what_is_to_be_seen_through_is_left() {
    let mut bed = Bed::start(Duration::from_millis(50), 1).await;
    bed.call_in_vain().await;
    soon(bed.running.stop()).await;
    assert_eq!(bed.log.recv().now_or_never().flatten(), Some("ended"));
}

#[tokio::test]
async fn no_more_is_seen_through_at_a_time_than_requests_run_and_the_rest_is_refused_before_it_begins() {
    let mut bed = Bed::start_with(Limits { in_flight: 2, ..Limits::default() }, 1).await;
    for _ in 0..2 {
        bed.call_in_vain().await;
    }
    let client = client(&bed.server).await;
    let refused = client.send::<String>("writes.both", &()).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    assert!(bed.log.try_recv().is_err(), "nothing of it was begun");
    bed.go_on.send_replace(true);
    let mut ended = 0;
    while ended < 2 {
        ended += usize::from(soon(bed.log.recv()).await.unwrap() == "ended");
    }
    assert_eq!(client.send::<String>("writes.both", &()).await.unwrap(), "both");
}
