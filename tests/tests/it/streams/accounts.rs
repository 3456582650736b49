//! Streams between two accounts, where nats-server gives every reply subject another name.

use super::*;

/// The service lives in one account, its caller in another that imports the subject, with a mapping of its own.
fn two_accounts() -> NatsServer {
    let config = r#"
        accounts {
            SERVICE: {
                users: [ { user: service, password: s } ]
                exports: [ { service: "stream.>", response_type: stream } ]
            }
            CALLER: {
                users: [ { user: caller, password: c } ]
                imports: [ { service: { account: SERVICE, subject: "stream.>" } } ]
                mappings: { "old.gated": "stream.gated", "old.count": "stream.count" }
            }
        }
    "#;
    server_with(|builder| builder.config(config).jetstream(false))
}

struct Accounts {
    server: NatsServer,
    service: ServiceHandle,
    client: Client,
    seen: Seen,
    ends: mpsc::UnboundedReceiver<()>,
}

async fn accounts() -> Accounts {
    let server = two_accounts();
    let (ends, ended) = mpsc::unbounded_channel();
    let seen = Seen { produced: Arc::default(), gate: Arc::new(Semaphore::new(0)), ends };
    let service = Service::new("stream", "1.0.0")
        .handlers(handlers![count, refused, fails, endless, gated, never, unary])
        .provide(seen.clone())
        .start(nats(&server).user("service", "s"))
        .await
        .unwrap();
    let client = Client::connect(&nats(&server).user("caller", "c")).await.unwrap();
    let client = client.timeout(PATIENCE).stream_timeout(PATIENCE * 2).item_timeout(PATIENCE);
    Accounts { server, service, client, seen, ends: ended }
}

#[tokio::test]
async fn streams_cross_accounts_and_mappings_with_flow_control() {
    let accounts = accounts().await;
    assert_eq!(soon(accounts.client.send::<u32>("stream.unary", &())).await.unwrap(), 7);
    for subject in ["stream.count", "old.count"] {
        for window in [1, 4, 32, 1_024] {
            let items = soon(accounts.client.window(window).stream::<u32>(subject, &1_000)).await.unwrap();
            let (items, error) = all(items).await;
            assert!(error.is_none(), "{subject} {window}: {error:?}");
            assert_eq!(items, Vec::from_iter(1..=1_000), "{subject} {window}");
        }
    }
    // A slow reader slows the service down.
    let mut items = soon(accounts.client.window(8).stream::<u64>("stream.endless", &())).await.unwrap();
    for number in 1..=50 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
        accounts.client.send::<u32>("stream.unary", &()).await.unwrap();
        let produced = accounts.seen.produced.load(Ordering::SeqCst);
        assert!(produced <= number + 8, "{produced} items for a reader of {number}");
    }
    // The caller reads nothing out of a reply subject: each has another name.
    let caller = login(&accounts.server).await;
    let inbox = caller.new_inbox();
    let mut frames = caller.subscribe(inbox.clone()).await.unwrap();
    by_hand::publish(&caller, "stream.count", Some(&inbox), "open 5", "3").await;
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let frame = soon(frames.next()).await.unwrap();
        assert!(frame.headers.unwrap().get("Rpc-Instance").is_some());
        addresses.push(frame.reply.unwrap().to_string());
    }
    assert!(addresses.iter().all(|address| address.starts_with("_R_.")), "{addresses:?}");
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "nats-server names each frame's reply subject anew");
}

async fn login(server: &NatsServer) -> async_nats::Client {
    let login = async_nats::ConnectOptions::with_user_and_password("caller".to_owned(), "c".to_owned());
    login.connect(server.url()).await.unwrap()
}

#[tokio::test]
async fn errors_and_cancels_cross_accounts() {
    let mut accounts = accounts().await;
    let (items, error) = all(soon(accounts.client.stream::<u32>("stream.fails", &())).await.unwrap()).await;
    assert_eq!((items, answered(error)), (vec![1, 2], 404));
    let refused = soon(accounts.client.stream::<u32>("stream.refused", &())).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PermissionDenied));
    for subject in ["stream.endless", "stream.gated", "stream.never", "old.gated"] {
        let items = soon(accounts.client.stream::<u64>(subject, &())).await.unwrap();
        drop(items);
        soon(accounts.ends.recv()).await.unwrap();
    }
    soon(accounts.client.send::<u32>("stream.unary", &())).await.unwrap();
    let stats = accounts.service.stats();
    assert_eq!(stats.iter().map(|handler| handler.errors).sum::<u64>(), 2, "no stream ended by its own pings");
}

/// A stream that is silent for longer than a ping takes, and goes on.
#[tokio::test]
async fn pings_are_answered_across_accounts() {
    let accounts = accounts().await;
    let mut items = soon(accounts.client.window(2).stream::<u64>("stream.gated", &())).await.unwrap();
    assert_eq!(soon(items.next()).await.unwrap().unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    accounts.seen.gate.add_permits(5);
    for number in 1..=5 {
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), number);
    }
}

#[tokio::test]
async fn a_caller_that_dies_in_another_account_ends_its_stream() {
    let mut accounts = accounts().await;
    let caller = login(&accounts.server).await;
    let inbox = caller.new_inbox();
    let mut frames = caller.subscribe(inbox.clone()).await.unwrap();
    by_hand::publish(&caller, "stream.endless", Some(&inbox), "open 2", "").await;
    soon(frames.next()).await.unwrap();
    drop((frames, caller));
    soon(accounts.ends.recv()).await.unwrap();
}

#[tokio::test]
async fn streams_in_nests_envelope_cross_accounts() {
    let mut accounts = accounts().await;
    let nest = accounts.client.nest();
    let (items, error) = all(soon(nest.stream::<u32>("stream.count", &500)).await.unwrap()).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(items, Vec::from_iter(1..=500));
    let mut items = soon(nest.stream::<u64>("stream.gated", &())).await.unwrap();
    accounts.seen.gate.add_permits(1);
    assert_eq!(soon(items.next()).await.unwrap().unwrap(), 0);
    drop(items);
    soon(accounts.ends.recv()).await.unwrap();
}
