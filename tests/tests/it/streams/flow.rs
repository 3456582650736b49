//! A slow reader slows its service down, and whoever leaves leaves nothing behind.

use nats_rpc_tests::proxy::{Proxy, Which};

use super::by_hand::{frame, publish};
use super::*;

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

/// NestJS's clients grant no credit, so the connection alone slows their streams down.
#[tokio::test]
async fn a_stream_waits_for_a_connection_that_takes_nothing_rather_than_fill_memory() {
    let server = server();
    let proxy = Proxy::to(server.port()).start().await.unwrap();
    let seen = Seen { produced: Arc::default(), gate: Arc::new(Semaphore::new(0)), ends: mpsc::unbounded_channel().0 };
    let service = Service::new("stream", "1.0.0").handlers(handlers![bulky]).provide(seen.clone());
    let _service = service.start(nats_rpc::NatsConfig::new(proxy.url())).await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    let body = r#"{"pattern":"stream.bulky","data":0,"id":"88a5f0d6ac4d1830655c1"}"#;
    publish(&caller, "stream.bulky", Some(&inbox), "", body).await;
    soon(answers.next()).await.unwrap();
    proxy.freeze(Which::All);
    let produced = || seen.produced.load(Ordering::SeqCst);
    let at_rest = async {
        loop {
            let before = produced();
            tokio::time::sleep(Duration::from_millis(200)).await;
            if produced() == before {
                return before;
            }
        }
    };
    let rest = soon(at_rest).await;
    proxy.resume(Which::All);
    let goes_on = async {
        while produced() == rest {
            soon(answers.next()).await.unwrap();
        }
    };
    soon(goes_on).await;
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
    // However much was granted, it runs no further ahead.
    assert_eq!(frame(&soon(answers.next()).await.unwrap()), "ask 2048");
    assert_eq!(stage.seen.produced.load(Ordering::SeqCst), 2_048);
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

/// Their subscriptions are there, so nats-server has nothing to say. One may be a program with a mistake, or a
/// subscriber to everything in place of a caller that has gone; the other takes no item and is there.
#[tokio::test]
async fn a_caller_that_answers_nothing_is_told_of_the_end_and_one_that_answers_is_waited_for() {
    let mut stage = stage().await;
    let caller = foreign(&stage.server).await;
    let open = async || {
        let inbox = caller.new_inbox();
        let answers = caller.subscribe(inbox.clone()).await.unwrap();
        publish(&caller, "stream.endless", Some(&inbox), "open 2", "").await;
        answers
    };
    let mut patient = open().await;
    let answering = tokio::spawn({
        let caller = caller.clone();
        async move {
            while let Some(next) = patient.next().await {
                match frame(&next) {
                    "item 1" | "item 2" | "ask 0" => {}
                    "ask 2" => publish(&caller, next.reply.as_ref().unwrap(), None, "credit 2", "").await,
                    other => panic!("a caller that answers hears {other:?}"),
                }
            }
        }
    });
    let mut silent = open().await;
    let mut asked = 0;
    let end = loop {
        let next = soon(silent.next()).await.unwrap();
        match frame(&next) {
            "item 1" | "item 2" | "ask 0" => {}
            "ask 2" => asked += 1,
            _ => break next,
        }
    };
    // The very first question may have been asked before any item.
    assert!((11..=12).contains(&asked), "{asked}");
    assert_eq!((frame(&end), code(&end)), ("error 3", 504));
    soon(stage.ends.recv()).await.unwrap();
    assert!(!answering.is_finished() && stage.ends.try_recv().is_err(), "the other one goes on");
    answering.abort();
}

#[tokio::test]
async fn a_lower_credit_than_before_takes_nothing_back() {
    let stage = stage().await;
    let caller = foreign(&stage.server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    publish(&caller, "stream.gated", Some(&inbox), "open 4", "").await;
    let mut next = async |wanted: &str| loop {
        let next = soon(answers.next()).await.unwrap();
        match frame(&next) {
            found if found == wanted => return next.reply.unwrap(),
            found => assert!(found.starts_with("ask"), "{found:?} came before {wanted:?}"),
        }
    };
    let address = next("item 1").await;
    for lower in ["credit 1", "credit 0"] {
        publish(&caller, &address, None, lower, "").await;
    }
    // The service has read what was sent to it before another call.
    stage.client.send::<u32>("stream.unary", &()).await.unwrap();
    stage.seen.gate.add_permits(3);
    for granted in ["item 2", "item 3", "item 4"] {
        next(granted).await;
    }
}

fn credit(total: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Rpc-Stream", format!("credit {total}"));
    headers
}

fn number(message: &Message) -> u64 {
    frame(message).strip_prefix("item ").expect("an item").parse().unwrap()
}
