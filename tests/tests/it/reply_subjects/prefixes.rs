//! Inbox prefixes of one's own, and what is no such prefix.

use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::{Client, ConnectError, KvAccess, NatsConfig, NatsConfigError, StartError};
use nats_rpc_tests::server;

use crate::support::{PATIENCE, code, foreign, nats, soon};

#[message_pattern("prefix.get")]
async fn get() -> u32 {
    7
}

#[message_pattern("prefix.count")]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

fn service() -> Service {
    Service::new("prefix", "1.0.0").handlers(handlers![get, count])
}

/// Which of the reply subjects a request to `service` is answered at.
async fn answered(service: Service, nats: NatsConfig, caller: &async_nats::Client) -> Vec<String> {
    let service = service.start(nats).await.unwrap();
    let mut replies = Vec::new();
    for reply in ["_INBOX.a.1", "_INBOX_shop.a.1", "shop.in.1", "nest.1", "shop.other.1", "shop.in"] {
        let mut inbox = caller.subscribe(reply).await.unwrap();
        caller.publish_with_reply("prefix.get", reply, "".into()).await.unwrap();
        // A reply to what was sent before is there by then.
        soon(caller.request("prefix.get", "".into())).await.unwrap();
        if let Some(Some(message)) = futures::FutureExt::now_or_never(inbox.next()) {
            assert_eq!((code(&message), &message.payload[..]), (0, &b"7"[..]));
            replies.push(reply.to_owned());
        }
    }
    soon(service.stop()).await;
    replies
}

#[tokio::test]
async fn requests_are_answered_at_inboxes_and_added_prefixes() {
    let server = server();
    let caller = foreign(&server).await;
    // nats-server delivers what begins with `_R_` across accounts alone; `streams::accounts` has it.
    let standard = ["_INBOX.a.1", "_INBOX_shop.a.1"];
    assert_eq!(answered(service(), nats(&server), &caller).await, standard);
    let one = answered(service().reply_prefix("shop.in"), nats(&server), &caller).await;
    assert_eq!((&one[..2], &one[2..]), (&standard.map(str::to_owned)[..], &["shop.in.1".to_owned()][..]));
    let both = answered(service().reply_prefix("shop.in"), nats(&server).reply_prefix("nest"), &caller).await;
    assert_eq!(both[2..], ["shop.in.1", "nest.1"]);
}

#[tokio::test]
async fn prefixes_that_reach_own_subjects_stop_the_start() {
    let nowhere = || NatsConfig::new("nats://127.0.0.1:1");
    let declared = || service().publishes("order.*").uses_bucket(KvAccess::to("orders").write());
    for bad in ["prefix", "prefix.get", "order", "order.placed", "$KV.orders", "$JS", "a.*", ">", "", "a..b"] {
        let error = declared().reply_prefix(bad).start(nowhere()).await.unwrap_err();
        assert!(matches!(error, StartError::Invalid(_)), "{bad:?}: {error}");
        assert!(matches!(declared().reply_prefix(bad).permissions(), Err(StartError::Invalid(_))), "{bad:?}");
        let error = declared().start(nowhere().reply_prefix(bad)).await.unwrap_err();
        assert!(matches!(error, StartError::Invalid(_)), "{bad:?}: {error}");
    }
    assert!(declared().reply_prefix("shop.in").reply_prefix("orders").permissions().is_ok());
    let error = Client::connect(&nowhere().reply_prefix("$KV")).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Config(NatsConfigError::Variable { name: "NATS_REPLY_PREFIXES", .. })),
        "{error}"
    );
}

#[tokio::test]
async fn streams_work_with_inbox_prefixes_on_both_sides() {
    let server = server();
    let service = service().reply_prefix("shop.in");
    let _service = service.start(nats(&server).inbox_prefix("stock.in")).await.unwrap();
    let config = nats(&server).inbox_prefix("shop.in");
    let client = Client::connect(&config.clone().reply_prefix("stock.in")).await.unwrap().timeout(PATIENCE);
    let items = soon(client.stream::<u32>("prefix.count", &500)).await.unwrap();
    let items: Vec<u32> = soon(items.map(Result::unwrap).collect()).await;
    assert_eq!(items, Vec::from_iter(1..=500));
    // The control: a client that does not publish there says so.
    let client = Client::connect(&config).await.unwrap().timeout(PATIENCE);
    let error = soon(client.stream::<u32>("prefix.count", &500)).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::IncompleteResponse { .. }), "{error}");
    assert_eq!(soon(client.send::<u32>("prefix.get", &())).await.unwrap(), 7);
}

/// What is logged on this thread while `work` runs.
async fn logged(work: impl Future<Output = ()>) -> String {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(lines.clone()).finish();
    // With a second dispatcher, tracing asks each thread's own whether it wants a line.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    work.await;
    drop(guard);
    String::from_utf8(std::mem::take(&mut lines.0.lock().unwrap())).unwrap()
}

#[derive(Clone, Default)]
struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn the_log_names_the_setting_once_and_no_secret() {
    let server = server();
    let caller = foreign(&server).await;
    let log = logged(async {
        let service = service().start(nats(&server)).await.unwrap();
        for _ in 0..20 {
            caller.publish_with_reply("prefix.get", "shop.in.secret", "".into()).await.unwrap();
            caller.publish_with_reply("$SRV.PING", "shop.in.secret", "".into()).await.unwrap();
        }
        soon(caller.request("prefix.get", "".into())).await.unwrap();
        soon(caller.request("$SRV.PING", "".into())).await.unwrap();
        soon(service.stop()).await;
    })
    .await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("NATS_REPLY_PREFIXES")).collect();
    assert!(lines.len() == 1 && lines[0].contains("WARN") && lines[0].contains("\"shop\""), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn an_inbox_prefix_that_services_reject_is_warned_of() {
    let server = server();
    let warned = async |config: NatsConfig| {
        let connected = async { drop(Client::connect(&config).await.unwrap()) };
        logged(connected).await.contains("NATS_REPLY_PREFIXES")
    };
    assert!(warned(nats(&server).inbox_prefix("shop.in")).await);
    assert!(warned(nats(&server).inbox_prefix("_INBOXshop")).await);
    assert!(!warned(nats(&server)).await);
    for prefix in ["_INBOX_shop", "_INBOX.mine"] {
        assert!(!warned(nats(&server).inbox_prefix(prefix)).await, "{prefix}");
    }
    assert!(!warned(nats(&server).inbox_prefix("shop.in").reply_prefix("shop")).await, "it is known here already");
}
