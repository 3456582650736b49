//! Ways to have nats-server publish what one may not publish oneself, and what becomes of the messages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use async_nats::{ConnectOptions, HeaderMap};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, Connection, NatsConfig, RouteStats, ServiceHandle};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{JwtConfig, SecretKey};
use nats_rpc_tests::secured::{Layout, Secured};
use nats_rpc_tests::server_with;
use serde_json::{Value, json};
use users::{Profile, Replicas, UserId, Users};

use super::{Intruder, of};
use crate::support::{PATIENCE, soon};

const SECRET: &str = "a secret of at least thirty-two bytes";

static CALLS: AtomicUsize = AtomicUsize::new(0);

#[message_pattern("deputy.open")]
#[public]
async fn open() -> usize {
    CALLS.fetch_add(1, Ordering::Relaxed) + 1
}

#[message_pattern("deputy.guarded")]
#[use_guards(JwtGuard)]
async fn guarded(Auth(me): Auth<UserClaims>) -> String {
    me.sub.clone()
}

/// A server on which `attacker` may write its own bucket, make consumers on it and get from it, and no more.
fn server() -> NatsServer {
    server_with(|builder| {
        builder.config(
            r#"authorization { users: [
                { user: service, password: service },
                { user: attacker, password: attacker, permissions: {
                    publish: ["_INBOX.>", "$KV.own.>", "$JS.API.CONSUMER.CREATE.KV_own", "$JS.API.DIRECT.GET.KV_own.>"],
                    subscribe: ["_INBOX.>"]
                } }
            ] }"#,
        )
    })
}

async fn service(server: &NatsServer) -> (ServiceHandle, Client) {
    let nats = NatsConfig::new(server.url()).user("service", "service");
    let service = Service::new("deputy", "1.0.0").handlers(handlers![open, guarded]).guard(guard());
    let running = soon(service.start(nats)).await.unwrap();
    let jetstream = running.connection().jetstream();
    let own = jetstream::kv::Config { bucket: "own".to_owned(), ..Default::default() };
    soon(jetstream.create_key_value(own)).await.unwrap();
    let client = Client::new(running.connection().clone()).timeout(PATIENCE);
    (running, client)
}

async fn attacker(server: &NatsServer) -> Intruder {
    let login = ConnectOptions::with_user_and_password("attacker".to_owned(), "attacker".to_owned());
    Intruder::with(login, &server.url()).await
}

fn guard() -> JwtGuard {
    JwtGuard::new(JwtConfig::hs256(SecretKey::new("JWT_SECRET", SECRET).unwrap())).unwrap()
}

fn token(sub: &str) -> String {
    let secret = SecretKey::new("JWT_SECRET", SECRET).unwrap();
    TokenIssuer::hs256(&secret).issue(&Grant::new(sub, "session").scope("profile:read profile:write")).unwrap()
}

/// Headers as one who would like to be somebody else sends them.
fn forged(user: &str, token: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-user", user);
    headers.insert("Nats-Request-Info", format!(r#"{{"user":"{user}"}}"#).as_str());
    if let Some(token) = token {
        headers.insert("authorization", format!("Bearer {token}").as_str());
    }
    headers
}

/// Waits until the handler's counters are as `wanted`.
async fn counted(running: &ServiceHandle, handler: &str, wanted: impl Fn(&RouteStats) -> bool) -> RouteStats {
    let counted = async {
        loop {
            let stats = running.stats().into_iter().find(|stats| stats.handler == handler).unwrap();
            if wanted(&stats) {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(counted).await
}

#[tokio::test]
async fn what_a_push_consumer_delivers_to_the_subject_of_a_handler_is_dropped_and_counted() {
    let server = server();
    let (running, client) = service(&server).await;
    let mut attacker = attacker(&server).await;
    attacker.may_not_publish("deputy.open").await;

    attacker.nats.publish_with_headers("$KV.own.evil", forged("ada", None), "{}".into()).await.unwrap();
    let mut inbox = attacker.nats.subscribe("_INBOX.control").await.unwrap();
    for (target, group) in [("deputy.open", Some("deputy")), ("_INBOX.control", None)] {
        let consumer = json!({
            "stream_name": "KV_own",
            "config": {
                "deliver_subject": target, "deliver_group": group, "ack_policy": "none", "deliver_policy": "all",
            },
        });
        let answer = soon(attacker.nats.request("$JS.API.CONSUMER.CREATE.KV_own", consumer.to_string().into())).await;
        let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
        assert!(answer["error"].is_null(), "{answer}");
    }
    // nats-server did deliver for a user who may not publish there, under the subject of the bucket.
    let delivered = soon(futures::StreamExt::next(&mut inbox)).await.unwrap();
    assert_eq!(delivered.subject.as_str(), "$KV.own.evil");
    let stats = counted(&running, "open", |stats| stats.unexpected > 0).await;
    assert_eq!((stats.unexpected, stats.requests, CALLS.load(Ordering::Relaxed)), (1, 0, 0));

    assert_eq!(soon(client.send::<usize>("deputy.open", &json!({}))).await.unwrap(), 1);
}

#[tokio::test]
async fn what_a_direct_get_sends_to_a_handler_is_dropped_and_counted_whatever_it_proves() {
    let server = server();
    let (running, client) = service(&server).await;
    let mut attacker = attacker(&server).await;
    attacker.may_not_publish("deputy.guarded").await;
    let get = "$JS.API.DIRECT.GET.KV_own.$KV.own.evil";

    let jetstream = jetstream::new(attacker.nats.clone());
    let keep = async |headers: HeaderMap, body: Value| {
        let kept = jetstream.publish_with_headers("$KV.own.evil", headers, body.to_string().into());
        soon(soon(kept).await.unwrap().into_future()).await.unwrap();
    };
    keep(forged("ada", None), json!({ "user": { "sub": "ada", "roles": ["admin"] } })).await;
    for (handler, subject) in [("guarded", "deputy.guarded"), ("open", "deputy.open")] {
        attacker.nats.publish_with_reply(get, subject, "".into()).await.unwrap();
        // It did arrive, under the subject of the handler.
        let stats = counted(&running, handler, |stats| stats.unexpected > 0).await;
        assert_eq!((stats.unexpected, stats.requests), (1, 0), "{handler}");
    }
    keep(forged("ada", Some(&token("eve"))), json!({})).await;
    attacker.nats.publish_with_reply(get, "deputy.guarded", "".into()).await.unwrap();
    let stats = counted(&running, "guarded", |stats| stats.unexpected > 1).await;
    assert_eq!((stats.unexpected, stats.requests), (2, 0), "a stolen token is no way round");

    // The same, sent by who may.
    let me: String = soon(client.bearer(token("eve")).send("deputy.guarded", &json!({}))).await.unwrap();
    assert_eq!(me, "eve");
    assert_eq!(counted(&running, "guarded", |stats| stats.requests > 0).await.unexpected, 2);
}

#[tokio::test]
async fn what_a_stream_republishes_to_a_handler_is_dropped_and_counted() {
    let secured = Secured::start_with(Layout::Single);
    let deploy = soon(Connection::open(&secured.config("deploy"))).await.unwrap().jetstream();
    soon(Users::provision(&deploy, Replicas::ONE)).await.unwrap();
    // Only who may create streams can do this, and then to any subject.
    let republish = stream::Republish {
        source: "$KV.auth_sess.x".to_owned(),
        destination: "update_user_profile".to_owned(),
        headers_only: false,
    };
    let evil = stream::Config {
        name: "KV_auth_sess".to_owned(),
        subjects: vec!["$KV.auth_sess.>".to_owned()],
        republish: Some(republish),
        ..Default::default()
    };
    soon(deploy.create_stream(evil)).await.unwrap();

    let auth = soon(Connection::open(&secured.config("auth"))).await.unwrap();
    let profiles = Users::open(&auth).await.unwrap();
    let ada = UserId::generate();
    soon(profiles.create(&Profile::new(ada, "ada@example.com"))).await.unwrap();
    let users = soon(users::service(|_| None).guard(guard()).start(secured.config("users"))).await.unwrap();
    let name = async || soon(profiles.find(ada)).await.unwrap().unwrap().display_name;

    for (number, token) in [(1, None), (2, Some(token(&ada.to_string())))] {
        let body = json!({ "displayName": "forged", "user": { "sub": ada, "userId": ada } }).to_string();
        let headers = forged(&ada.to_string(), token.as_deref());
        auth.nats().publish_with_headers("$KV.auth_sess.x", headers, body.into()).await.unwrap();
        let stats = counted(&users, "update_user_profile", |stats| stats.unexpected >= number).await;
        assert_eq!((stats.unexpected, stats.requests), (number, 0));
    }
    assert_ne!(name().await.as_deref(), Some("forged"));

    // The same, sent by who may.
    let client = Client::connect(&secured.config("client")).await.unwrap().timeout(PATIENCE);
    let change = json!({ "displayName": "control" });
    let client = client.bearer(token(&ada.to_string()));
    soon(client.send::<Value>("update_user_profile", &change)).await.unwrap();
    assert_eq!(name().await.as_deref(), Some("control"));
}

static TICKS: AtomicUsize = AtomicUsize::new(0);

#[event_pattern("asked.{symbol}")]
async fn asked(Param(_symbol): Param<String>) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

#[event_pattern("unasked.{symbol}")]
async fn unasked(Param(_symbol): Param<String>) {}

#[tokio::test]
async fn an_event_handler_takes_what_a_stream_republishes_if_it_says_so_and_else_drops_and_counts_it() {
    let server = nats_rpc_tests::server();
    let service =
        Service::new("ticks", "1.0.0").handlers(handlers![asked, unasked]).accept_republished("asked.{symbol}");
    let running = soon(service.start(NatsConfig::new(server.url()))).await.unwrap();
    let jetstream = running.connection().jetstream();
    for event in ["asked", "unasked"] {
        let republish = stream::Republish {
            source: format!("ticks.{event}.*"),
            destination: format!("{event}.{{{{wildcard(1)}}}}"),
            headers_only: false,
        };
        let config = stream::Config {
            name: event.to_owned(),
            subjects: vec![format!("ticks.{event}.*")],
            republish: Some(republish),
            ..Default::default()
        };
        soon(jetstream.create_stream(config)).await.unwrap();
        let stored = soon(jetstream.publish(format!("ticks.{event}.eur"), "{}".into())).await.unwrap();
        soon(stored.into_future()).await.unwrap();
    }
    let stats = counted(&running, "asked", |stats| stats.requests > 0).await;
    assert_eq!((stats.unexpected, stats.requests, TICKS.load(Ordering::Relaxed)), (0, 1, 1));
    let stats = counted(&running, "unasked", |stats| stats.unexpected > 0).await;
    assert_eq!((stats.unexpected, stats.requests), (1, 0));
    // One that nobody forwards is taken by both.
    let client = Client::new(running.connection().clone());
    for event in ["asked", "unasked"] {
        client.emit(format!("{event}.usd"), &json!({})).await.unwrap();
    }
    assert_eq!(counted(&running, "asked", |stats| stats.requests > 1).await.unexpected, 0);
    assert_eq!(counted(&running, "unasked", |stats| stats.requests > 0).await.unexpected, 1);
}

#[event_pattern("hidden.{symbol}")]
async fn hidden(Param(_symbol): Param<String>) {}

/// nats-server cuts the last two bytes off the headers that it forwards and adds its own behind. If these bytes are no
/// line end, the first header of the server becomes a part of the publisher's last value.
#[tokio::test]
async fn republished_message_with_open_headers_is_dropped() {
    let server = nats_rpc_tests::server();
    let service = Service::new("ticks", "1.0.0").handlers(handlers![hidden]);
    let running = soon(service.start(NatsConfig::new(server.url()))).await.unwrap();
    let republish = stream::Republish {
        source: "ticks.hidden.*".to_owned(),
        destination: "hidden.{{wildcard(1)}}".to_owned(),
        headers_only: false,
    };
    let config = stream::Config {
        name: "hidden".to_owned(),
        subjects: vec!["ticks.hidden.*".to_owned()],
        republish: Some(republish),
        ..Default::default()
    };
    soon(running.connection().jetstream().create_stream(config)).await.unwrap();
    let mut publisher = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    for (number, headers) in ["NATS/1.0\r\n\r\n", "NATS/1.0\r\nx: y.."].into_iter().enumerate() {
        let (head, all) = (headers.len(), headers.len() + 2);
        let message = format!(
            "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nHPUB ticks.hidden.eur {head} {all}\r\n{headers}{{}}\r\n"
        );
        tokio::io::AsyncWriteExt::write_all(&mut publisher, message.as_bytes()).await.unwrap();
        let stats = counted(&running, "hidden", |stats| stats.unexpected + stats.requests > number as u64).await;
        assert_eq!((stats.unexpected, stats.requests), (number as u64 + 1, 0), "{headers:?}");
    }
    soon(Client::new(running.connection().clone()).emit("hidden.usd", &json!({}))).await.unwrap();
    assert_eq!(
        counted(&running, "hidden", |stats| stats.requests > 0).await.unexpected,
        2,
        "one that no stream forwards"
    );
}

#[tokio::test]
async fn only_what_an_event_handler_listens_to_can_be_said_to_be_republished() {
    for pattern in ["deputy.open", "asked.eur", "nothing"] {
        let service = Service::new("ticks", "1.0.0").handlers(handlers![open, asked]).accept_republished(pattern);
        let error = service.start(NatsConfig::new("127.0.0.1:1")).await.unwrap_err().to_string();
        assert!(error.contains(&format!("accept_republished({pattern:?})")), "{error}");
    }
}

#[test]
fn the_file_makes_deputies_of_nobody_but_auth() {
    for layout in Layout::ALL {
        for user in layout.users() {
            let subjects = super::granted(of(layout, &user.to_uppercase()), "publish:");
            let direct: Vec<_> = subjects.iter().filter(|subject| subject.contains("DIRECT")).collect();
            // Nobody who reads the revocations at once writes in the same account, except auth.
            let reads_all = layout == Layout::Accounts && ["auth", "users", "gateway", "verifier"].contains(&&*user);
            assert_eq!(direct.len(), usize::from(reads_all), "{user}: {direct:?}");
            assert!(direct.iter().all(|subject| subject.ends_with("JS.DIRECT.GET.KV_auth_rev") || user == "auth"));
            let followed = subjects.iter().filter_map(|subject| subject.split_once(".CONSUMER.CREATE.KV_"));
            let followed = followed.map(|(_, stream)| stream.split('.').next().unwrap());
            let writes = |bucket: &str| subjects.iter().any(|subject| subject.starts_with(&format!("$KV.{bucket}.")));
            let mut both: Vec<_> = followed.filter(|followed| writes(followed)).collect();
            both.sort_unstable();
            match (layout, user.as_str()) {
                (Layout::Single, "auth") => assert_eq!(both, ["auth_jwks", "auth_rev", "gw_jwks"]),
                _ => assert!(both.is_empty(), "{user} writes and follows {both:?}"),
            }
            let creates =
                subjects.iter().any(|subject| subject.contains("STREAM.CREATE") || subject.contains("STREAM.UPDATE"));
            assert_eq!(creates, user.starts_with("deploy"), "{user}");
        }
        assert!(!layout.file().contains("$JS.API.>\""));
        // A consumer delivers to any subject of the account that it is in.
        assert_eq!(layout.file().contains("JS.API.CONSUMER."), layout == Layout::Single);
    }
}
