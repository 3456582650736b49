//! What nats-server does with reply subjects at the border of an account, and within one. Plain clients: no check of
//! ours takes part. If one of these fails after an update of nats-server, docs/security.md is no longer true.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions, Message};
use futures::{FutureExt, StreamExt};
use nats_rpc::prelude::*;
use nats_rpc::{Account, KvAccess, KvBucket, NatsConfig};
use nats_rpc_tests::nodes::{self, Nodes};
use nats_rpc_tests::server_with;
use serde_json::{Value, json};

use crate::support::{PATIENCE, soon};

/// The bucket of the service's account holds `null`, which nats-server reads as a request to purge all of a stream.
const STORED: &str = "null";
const RECORD: &str = "$KV.trust.k";

/// OWNER has the bucket `trust`, a service, and all of JetStream's API exported; a caller is in OWNER itself, in CALLERS
/// without JetStream, in STREAMS with a bucket of its own, and in WRITERS, which imports a subject of the bucket.
const CONFIG: &str = r#"
accounts {
  OWNER {
    jetstream: enabled
    users: [ { user: owner, password: p }, { user: inside, password: p } ]
    exports: [
      { service: "work" }
      { service: "$JS.API.STREAM.INFO.KV_trust" }
      { service: "$JS.API.STREAM.MSG.GET.KV_trust" }
      { service: "$JS.API.DIRECT.GET.KV_trust", response_type: stream }
      { service: "$JS.API.CONSUMER.MSG.NEXT.KV_trust.pulled", response_type: stream }
      { service: "$KV.trust.k", accounts: [WRITERS] }
    ]
  }
  CALLERS { users: [ { user: caller, password: p }, { user: neighbour, password: p } ], imports: $IMPORTS }
  STREAMS { jetstream: enabled, users: [ { user: streams, password: p } ], imports: $IMPORTS }
  WRITERS {
    users: [ { user: writer, password: p } ]
    imports: [
      { service: { account: OWNER, subject: "work" } }
      { service: { account: OWNER, subject: "$KV.trust.k" } }
    ]
  }
}
"#;
const IMPORTS: &str = r#"[
  { service: { account: OWNER, subject: "work" } }
  { service: { account: OWNER, subject: "$JS.API.STREAM.INFO.KV_trust" }, to: "OWNERJS.STREAM.INFO.KV_trust" }
  { service: { account: OWNER, subject: "$JS.API.STREAM.MSG.GET.KV_trust" }, to: "OWNERJS.STREAM.MSG.GET.KV_trust" }
  { service: { account: OWNER, subject: "$JS.API.DIRECT.GET.KV_trust" }, to: "OWNERJS.DIRECT.GET.KV_trust" }
  { service: { account: OWNER, subject: "$JS.API.CONSUMER.MSG.NEXT.KV_trust.pulled" }, to: "OWNERJS.CONSUMER.MSG.NEXT.KV_trust.pulled" }
]"#;

/// The server, a service that replies `null` to whoever sends `work`, and a bucket with a consumer.
struct Border {
    urls: String,
    owner: Client,
    _servers: Box<dyn std::any::Any + Send>,
}

impl Border {
    async fn start() -> Self {
        let server = server_with(|builder| builder.config(CONFIG.replace("$IMPORTS", IMPORTS)));
        Self::on(server.url(), Box::new(server), 1).await
    }

    /// On three servers, each with a copy of the bucket.
    async fn start_cluster() -> Self {
        let nodes = Nodes::start_with(&CONFIG.replace("$IMPORTS", IMPORTS));
        Self::on(nodes.urls(), Box::new(nodes), 3).await
    }

    async fn on(urls: String, servers: Box<dyn std::any::Any + Send>, num_replicas: usize) -> Self {
        let owner = connect(&urls, "owner").await;
        let jetstream = jetstream::new(owner.clone());
        let trust = kv::Config { bucket: "trust".to_owned(), num_replicas, ..kv::Config::default() };
        let create = async {
            loop {
                // The servers may still be electing the one that creates streams.
                match jetstream.create_key_value(trust.clone()).await {
                    Ok(trust) => return trust,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let trust = tokio::time::timeout(nodes::ELECTION_LIMIT, create).await.unwrap();
        soon(trust.put("k", STORED.into())).await.unwrap();
        let pulled =
            jetstream::consumer::pull::Config { durable_name: Some("pulled".to_owned()), ..Default::default() };
        soon(trust.stream.create_consumer(pulled)).await.unwrap();
        let mut work = owner.subscribe("work").await.unwrap();
        soon(owner.flush()).await.unwrap();
        let service = owner.clone();
        tokio::spawn(async move {
            while let Some(request) = work.next().await {
                if let Some(reply) = request.reply {
                    service.publish(reply, STORED.into()).await.unwrap();
                }
            }
        });
        Self { urls, owner, _servers: servers }
    }

    /// The records of a bucket, with their sequences.
    async fn records(nats: &Client, bucket: &str) -> (u64, BTreeMap<u64, Value>) {
        let ask = async |subject: String, body: String| -> Value {
            let reply = soon(nats.request(subject, body.into())).await.unwrap();
            serde_json::from_slice(&reply.payload).unwrap()
        };
        let info = ask(format!("$JS.API.STREAM.INFO.KV_{bucket}"), String::new()).await;
        let (mut records, mut next) = (BTreeMap::new(), 0_u64);
        loop {
            let query = json!({ "seq": next, "next_by_subj": format!("$KV.{bucket}.>") }).to_string();
            let found = ask(format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"), query).await;
            let Some(sequence) = found["message"]["seq"].as_u64() else { break };
            records.insert(sequence, found["message"].clone());
            next = sequence + 1;
        }
        (info["state"]["last_seq"].as_u64().unwrap(), records)
    }

    /// Waits until the service replies to `client`.
    async fn is_served(&self, client: &Client) {
        soon(async {
            while client.request("work", "".into()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    async fn trust(&self) -> (u64, BTreeMap<u64, Value>) {
        Self::records(&self.owner, "trust").await
    }
}

async fn connect(urls: &str, user: &str) -> Client {
    let login = ConnectOptions::with_user_and_password(user.to_owned(), "p".to_owned());
    let servers: Vec<async_nats::ServerAddr> = urls.split(',').map(|url| url.parse().unwrap()).collect();
    soon(login.retry_on_initial_connect().connect(servers)).await.unwrap()
}

/// Requests that nats-server, or the service, replies to: with the prefix of the API, and the body.
fn requests(api: &str) -> Vec<(String, String)> {
    let last = json!({ "last_by_subj": RECORD }).to_string();
    let all = json!({ "multi_last": ["$KV.trust.>"], "batch": 8 }).to_string();
    [
        ("work".to_owned(), String::new()),
        (format!("{api}.STREAM.INFO.KV_trust"), String::new()),
        (format!("{api}.STREAM.MSG.GET.KV_trust"), last.clone()),
        (format!("{api}.DIRECT.GET.KV_trust"), last),
        (format!("{api}.DIRECT.GET.KV_trust"), all),
        (format!("{api}.CONSUMER.MSG.NEXT.KV_trust.pulled"), json!({ "batch": 1, "no_wait": true }).to_string()),
    ]
    .into()
}

/// Sends each request with `reply` as its reply subject, and each once more with an inbox, whose reply it waits for.
async fn send(attacker: &Client, api: &str, reply: &str) {
    for (subject, body) in requests(api) {
        attacker.publish_with_reply(subject.clone(), reply.to_owned(), body.clone().into()).await.unwrap();
        // What is pulled arrives under the subject that it was stored at.
        let inbox = attacker.new_inbox();
        let mut replies = attacker.subscribe(inbox.clone()).await.unwrap();
        attacker.publish_with_reply(subject, inbox, body.into()).await.unwrap();
        soon(replies.next()).await.unwrap();
    }
}

/// Sends the requests until one of the replies is heard: in a cluster, a subscription is known everywhere some
/// milliseconds later.
async fn heard_by(listener: &mut async_nats::Subscriber, attacker: &Client, api: &str, reply: &str) -> Message {
    soon(async {
        loop {
            send(attacker, api, reply).await;
            if let Ok(heard) = tokio::time::timeout(Duration::from_millis(100), listener.next()).await {
                return heard.unwrap();
            }
        }
    })
    .await
}

/// Reply subjects that would do harm in the account of the bucket.
const TARGETS: [&str; 6] =
    [RECORD, "$KV.trust.other", "$JS.API.STREAM.PURGE.KV_trust", "$SYS.REQ.SERVER.PING", "victim", "_INBOX.victim.1"];

#[tokio::test]
async fn replies_across_the_border_reach_the_callers_account_alone() {
    replies_reach_the_callers_account_alone(Border::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cluster_treats_replies_across_the_border_alike() {
    replies_reach_the_callers_account_alone(Border::start_cluster().await).await;
}

async fn replies_reach_the_callers_account_alone(border: Border) {
    let mut heard = border.owner.subscribe("victim").await.unwrap();
    let mut inbox = border.owner.subscribe("_INBOX.victim.>").await.unwrap();
    soon(border.owner.flush()).await.unwrap();
    let before = border.trust().await;
    let caller = connect(&border.urls, "caller").await;
    let mut neighbour = connect(&border.urls, "neighbour").await.subscribe("victim").await.unwrap();
    // Other servers of a cluster know of it some milliseconds later.
    border.is_served(&caller).await;
    for target in TARGETS {
        send(&caller, "OWNERJS", target).await;
    }
    assert_eq!(border.trust().await, before);
    soon(border.owner.flush()).await.unwrap();
    assert!(heard.next().now_or_never().is_none() && inbox.next().now_or_never().is_none());
    // They did arrive: in the account of the caller.
    assert_eq!(heard_by(&mut neighbour, &caller, "OWNERJS", "victim").await.payload, STORED);

    // The control: within the account, the same requests do harm.
    let inside = connect(&border.urls, "inside").await;
    border.is_served(&inside).await;
    heard_by(&mut heard, &inside, "$JS.API", "victim").await;
    heard_by(&mut inbox, &inside, "$JS.API", "_INBOX.victim.1").await;
    send(&inside, "$JS.API", "$KV.trust.other").await;
    let after = changed(&border, &before).await;
    assert!(after.1.values().any(|record| record["subject"] == "$KV.trust.other"), "{after:?}");
    let direct = json!({ "last_by_subj": RECORD }).to_string();
    let purge = "$JS.API.STREAM.PURGE.KV_trust";
    inside.publish_with_reply("$JS.API.DIRECT.GET.KV_trust", purge, direct.into()).await.unwrap();
    soon(async {
        while !border.trust().await.1.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until the bucket differs from `before`.
async fn changed(border: &Border, before: &(u64, BTreeMap<u64, Value>)) -> (u64, BTreeMap<u64, Value>) {
    soon(async {
        loop {
            let now = border.trust().await;
            if now.0 != before.0 {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn replies_across_the_border_write_buckets_of_the_caller() {
    let border = Border::start().await;
    let caller = connect(&border.urls, "streams").await;
    let own = kv::Config { bucket: "own".to_owned(), ..kv::Config::default() };
    soon(jetstream::new(caller.clone()).create_key_value(own)).await.unwrap();
    // Why callers are in an account without JetStream: all whom they call, and nats-server, write there for them.
    for (subject, body) in requests("OWNERJS").into_iter().take(5) {
        let (before, _) = Border::records(&caller, "own").await;
        caller.publish_with_reply(subject.clone(), "$KV.own.k", body.into()).await.unwrap();
        soon(async {
            while Border::records(&caller, "own").await.0 == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn imported_subject_of_a_bucket_is_written_by_replies() {
    let border = Border::start().await;
    let before = border.trust().await;
    let writer = connect(&border.urls, "writer").await;
    // Why nobody but the gateway is in the account that imports the ring of gateways.
    writer.publish_with_reply("work", RECORD, "".into()).await.unwrap();
    assert_eq!(changed(&border, &before).await.0, before.0 + 1);
}

#[tokio::test]
async fn request_that_nobody_serves_fails_at_once_across_the_border() {
    let border = Border::start().await;
    let caller = connect(&border.urls, "caller").await;
    soon(caller.request("work", "".into())).await.unwrap();
    border.owner.drain().await.unwrap();
    let no_responders = async {
        loop {
            match caller.request("work", "".into()).await.map_err(|error| error.kind()) {
                Err(async_nats::RequestErrorKind::NoResponders) => break,
                // The drain lost a request that was on its way.
                Err(async_nats::RequestErrorKind::TimedOut) | Ok(_) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    soon(no_responders).await;
}

#[message_pattern("orders.count")]
#[public]
async fn count(State(orders): State<std::sync::Arc<KvBucket>>) -> Result<usize, RpcError> {
    Ok(usize::from(orders.current().await.internal()?.latest("first").await.internal()?.is_some()))
}

/// `docs/accounts.conf`, as the documentation shows it.
const EXAMPLE: &str = include_str!("../../../../docs/accounts.conf");

#[tokio::test]
async fn documented_example_serves_callers_and_keeps_its_bucket() {
    let orders = Service::new("orders", "1.0.0")
        .handlers(handlers![count])
        .account(Account::new())
        .uses_bucket(KvAccess::to("orders").read().write())
        .provide_with(async |context: ServiceContext| {
            KvBucket::open(context.connection(), "orders").await.map(std::sync::Arc::new)
        });
    for line in orders.permissions().unwrap().to_string().lines().map(str::trim) {
        assert!(EXAMPLE.contains(line), "docs/accounts.conf lacks {line}");
    }
    let passwords = "ORDERS_PASSWORD: o\nDEPLOY_PASSWORD: d\nSHOP_PASSWORD: s\n";
    let server = server_with(|builder| builder.config(passwords.to_owned() + EXAMPLE));
    let nats = |user: &str, password: &str| {
        NatsConfig::new(server.url()).user(user, password).inbox_prefix(format!("_INBOX_{user}"))
    };
    let deploy = soon(nats_rpc::Connection::open(&nats("deploy", "d"))).await.unwrap().jetstream();
    let bucket = kv::Config { bucket: "orders".to_owned(), ..kv::Config::default() };
    soon(deploy.create_key_value(bucket)).await.unwrap();
    let running = soon(orders.start(nats("orders", "o"))).await.unwrap();
    let shop = soon(nats_rpc::Client::connect(&nats("shop", "s"))).await.unwrap().timeout(PATIENCE);
    for reply in ["$KV.orders.first", "$JS.API.STREAM.PURGE.KV_orders"] {
        shop.connection().nats().publish_with_reply("orders.count", reply, "{}".into()).await.unwrap();
        assert_eq!(soon(shop.send::<usize>("orders.count", &json!({}))).await.unwrap(), 0);
    }
    let (last, _) = Border::records(&running.connection().nats(), "orders").await;
    assert_eq!(last, 0);
    soon(running.connection().nats().request("$KV.orders.first", "{}".into())).await.unwrap();
    assert_eq!(soon(shop.send::<usize>("orders.count", &json!({}))).await.unwrap(), 1);
}
