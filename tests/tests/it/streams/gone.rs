//! What becomes of a stream when a side goes away.

use nats_rpc_tests::proxy::{Proxy, Which};

use super::by_hand::{Fake, publish};
use super::*;

#[tokio::test]
async fn a_stream_that_its_caller_drops_is_dropped_at_the_service() {
    let mut stage = stage().await;
    for subject in ["stream.endless", "stream.gated", "stream.never"] {
        let items = soon(stage.client.stream::<u64>(subject, &())).await.unwrap();
        drop(items);
        soon(stage.ends.recv()).await.unwrap();
    }
    // It was told so. Had it found out by its own questions, the end would be an error.
    soon(stage.client.send::<u32>("stream.unary", &())).await.unwrap();
    assert_eq!(stage.service.stats().iter().map(|handler| handler.errors).sum::<u64>(), 0);
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

/// A service that reaches its server through a proxy, and the caller of a stream that does not.
async fn behind_a_proxy(server: &NatsServer) -> (Proxy, ServiceHandle, Client, Seen) {
    let proxy = Proxy::to(server.port()).start().await.unwrap();
    let seen = Seen { produced: Arc::default(), gate: Arc::new(Semaphore::new(0)), ends: mpsc::unbounded_channel().0 };
    let service = Service::new("stream", "1.0.0").handlers(handlers![count, gated, unary]).provide(seen.clone());
    let service = service.start(nats_rpc::NatsConfig::new(proxy.url())).await.unwrap();
    let client = client(server).await.stream_timeout(PATIENCE * 2).item_timeout(PATIENCE);
    (proxy, service, client, seen)
}

#[tokio::test]
async fn a_service_that_loses_its_connection_for_good_ends_its_callers_stream_with_an_error() {
    let server = server();
    let (proxy, _service, client, seen) = behind_a_proxy(&server).await;
    let mut items = client.stream::<u64>("stream.gated", &()).await.unwrap();
    assert_eq!(soon(items.next()).await.unwrap().unwrap(), 0);
    drop(proxy);
    // It goes on as long as it can: what it makes now goes nowhere.
    seen.gate.add_permits(10);
    let (lost, error) = all(items).await;
    assert!(lost.is_empty() && matches!(error, Some(CallError::IncompleteResponse { .. })), "{lost:?} {error:?}");
}

/// Whatever was on its way when the connection broke: a reader has all items, or learns that it has not.
#[tokio::test]
async fn a_service_whose_connection_breaks_and_comes_back_never_ends_a_stream_early_in_silence() {
    const LAST: u32 = 20_000;
    let server = server();
    let (proxy, _service, client, _) = behind_a_proxy(&server).await;
    let client = client.no_responders_timeout(PATIENCE);
    for cut_behind in [1, 500, 3_000] {
        soon(client.send::<u32>("stream.unary", &())).await.unwrap();
        let mut items = client.window(64).stream::<u32>("stream.count", &LAST).await.unwrap();
        for number in 1..=cut_behind {
            assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
        }
        proxy.cut(Which::All).await;
        let (rest, error) = all(items).await;
        let had = cut_behind + u32::try_from(rest.len()).unwrap();
        assert_eq!(rest, Vec::from_iter(cut_behind + 1..=had), "each in its place");
        assert!(
            had == LAST || matches!(error, Some(CallError::IncompleteResponse { .. })),
            "{had} items, then {error:?}"
        );
    }
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

    let limits = Limits { shutdown_timeout: Duration::from_millis(100), ..Limits::default() };
    let stage = stage_with(server(), limits).await;
    let items = stage.client.stream::<u64>("stream.gated", &()).await.unwrap();
    let stopping = stage_stop(stage.service);
    let (items, error) = all(items).await;
    assert_eq!((items, answered(error)), (vec![0], 503));
    soon(stopping).await.unwrap();
}

fn stage_stop(service: ServiceHandle) -> tokio::task::JoinHandle<()> {
    tokio::spawn(service.stop())
}
