//! Messages whose headers async-nats cannot read: at most the first one costs a connection.

use std::time::Duration;

use async_nats::jetstream::kv::{self, Operation};
use bytes::Bytes;
use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, Connection, HeaderFilter, NatsConfig, ServiceHandle};
use nats_rpc_tests::certificates::Authority;
use nats_rpc_tests::secured::Secured;
use nats_rpc_tests::{server, server_with};
use serde_json::{Value, json};

use crate::deployed::{Deployed, Trust, credentials};
use crate::renewal::{deadly, until_renewed};
use crate::support::{PATIENCE, code, foreign, nats, request, send_raw, soon, until_ready};

/// Headers that async-nats 0.51 cannot read. The first ends its task, the others make it connect again.
const UNREADABLE: [&[u8]; 7] = [
    b"NATS/1.0\r\na: b\rc\r\n\r\n",
    b"NATS/1.0\r\nabc\r\n\r\n",
    b"NATS/1.0\r\na: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\na b: c\r\n\r\n",
    b"NATS/1.0 99999\r\n\r\n",
    b"a: b\r\n\r\n",
    b"\r\n\r\n",
];

/// How long a call may take that is not lost, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(5);

#[message_pattern("poison.ping")]
async fn ping() -> &'static str {
    "pong"
}

async fn start(server: &NatsServer, filter: HeaderFilter) -> ServiceHandle {
    let service = Service::new("poison", "1.0.0").handlers(handlers![ping]);
    soon(service.start(nats(server).header_filter(filter))).await.unwrap()
}

fn publish(subject: &str, reply: &str, headers: &[u8]) -> Vec<u8> {
    let (head, all) = (headers.len(), headers.len() + 2);
    [format!("HPUB {subject} {reply} {head} {all}\r\n").as_bytes(), headers, b"{}\r\n"].concat()
}

async fn ping_is_answered(server: &NatsServer) {
    let answer = request(&foreign(server).await, "poison.ping", "").await;
    assert_eq!(&answer.payload[..], b"\"pong\"");
}

#[tokio::test]
async fn filter_from_start_loses_no_connection() {
    let server = server();
    let running = start(&server, HeaderFilter::Always).await;
    for headers in UNREADABLE {
        send_raw(&server, &publish("poison.ping", "", headers)).await;
        ping_is_answered(&server).await;
    }
    assert_eq!(running.connection().generation(), 0);
    assert_eq!(running.connection().unreadable_messages(), UNREADABLE.len() as u64);
    soon(running.stop()).await;
}

/// The control of the others: what each poison costs without a filter.
#[tokio::test]
async fn without_filter_each_poison_costs_a_connection() {
    let server = server();
    let running = start(&server, HeaderFilter::Never).await;
    for generation in 1..=3 {
        send_raw(&server, &deadly("poison.ping")).await;
        let renewed = async {
            while running.connection().generation() < generation {
                tokio::task::yield_now().await;
            }
        };
        soon(renewed).await;
        until_ready(&running).await;
    }
    ping_is_answered(&server).await;
    assert_eq!(running.connection().unreadable_messages(), 0);
}

#[tokio::test]
async fn first_poison_alone_costs_a_connection() {
    let server = server();
    let running = start(&server, HeaderFilter::Auto).await;
    send_raw(&server, &deadly("poison.ping")).await;
    until_renewed(running.connection()).await;
    until_ready(&running).await;
    for headers in UNREADABLE {
        send_raw(&server, &publish("poison.ping", "", headers)).await;
        ping_is_answered(&server).await;
    }
    assert_eq!(running.connection().generation(), 1);
    assert_eq!(running.connection().unreadable_messages(), UNREADABLE.len() as u64);
    soon(running.stop()).await;
}

#[tokio::test]
async fn repeated_breaks_put_the_connection_behind_a_filter() {
    let server = server();
    let running = start(&server, HeaderFilter::Auto).await;
    let connection = running.connection();
    let mut breaks = 0;
    while connection.generation() == 0 {
        assert!(breaks < 20, "it breaks on and on");
        send_raw(&server, &publish("poison.ping", "", b"a: b\r\n\r\n")).await;
        until_ready(&running).await;
        breaks += 1;
    }
    until_ready(&running).await;
    for _ in 0..5 {
        send_raw(&server, &publish("poison.ping", "", b"a: b\r\n\r\n")).await;
        ping_is_answered(&server).await;
    }
    assert_eq!(connection.generation(), 1);
    assert_eq!(connection.unreadable_messages(), 5);
}

#[tokio::test]
async fn poisoned_request_is_answered_400() {
    let server = server();
    let _running = start(&server, HeaderFilter::Always).await;
    let caller = foreign(&server).await;
    let mut answers = caller.subscribe("_INBOX.poison.x").await.unwrap();
    caller.flush().await.unwrap();
    for headers in UNREADABLE {
        send_raw(&server, &publish("poison.ping", "_INBOX.poison.x", headers)).await;
        assert_eq!(code(&soon(answers.next()).await.unwrap()), 400);
    }
}

/// An answer that cannot be read must not pass for one without a value.
#[tokio::test]
async fn poisoned_answer_fails_its_call_and_no_other() {
    let server = server();
    let _running = start(&server, HeaderFilter::Auto).await;
    let silent = foreign(&server).await;
    let mut asked = silent.subscribe("poison.silent").await.unwrap();
    silent.flush().await.unwrap();
    let client = Client::connect(&nats(&server).header_filter(HeaderFilter::Always)).await.unwrap().timeout(PATIENCE);
    for headers in UNREADABLE {
        let call = tokio::spawn({
            let client = client.clone();
            async move { client.send::<Option<()>>("poison.silent", &()).await }
        });
        let reply = soon(asked.next()).await.unwrap().reply.unwrap();
        send_raw(&server, &publish("poison.nobody", "", b"NATS/1.0\r\n\r\n")).await;
        send_raw(&server, &publish(&reply, "", headers)).await;
        let error = soon(call).await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Remote(_)), "{error}");
    }
    assert_eq!(client.send::<String>("poison.ping", &()).await.unwrap(), "pong");
    assert_eq!(client.connection().generation(), 0);
}

#[tokio::test]
async fn poisoned_record_reaches_its_watcher_without_a_value() {
    let server = server();
    let config = kv::Config { bucket: "poison".to_owned(), history: 8, ..Default::default() };
    async_nats::jetstream::new(foreign(&server).await).create_key_value(config).await.unwrap();
    let connection = Connection::open(&nats(&server).header_filter(HeaderFilter::Always)).await.unwrap();
    let store = connection.jetstream().get_key_value("poison").await.unwrap();
    store.put("key", "first".into()).await.unwrap();
    send_raw(&server, &publish("$KV.poison.key", "", UNREADABLE[0])).await;
    store.put("key", "last".into()).await.unwrap();
    let mut entries = store.watch_all_from_revision(1).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let entry = soon(entries.next()).await.unwrap().unwrap();
        assert_eq!(entry.operation, Operation::Put);
        seen.push(entry.value);
    }
    assert_eq!(seen, [Bytes::from("first"), Bytes::new(), Bytes::from("last")]);
}

#[tokio::test]
async fn filter_works_with_tls_client_certificates_and_passwords() {
    let authority = Authority::new();
    let (certificate, own) = (authority.server(), authority.client());
    let file = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    let config = format!(
        "tls {{ cert_file: {}, key_file: {}, ca_file: {}, verify: true }}\nauthorization {{ user: u, password: p }}",
        file(&certificate.certificate),
        file(&certificate.key),
        file(&authority.path())
    );
    let server = server_with(|builder| builder.config(config).jetstream(false));
    let nats = NatsConfig::new(server.url())
        .user("u", "p")
        .name("behind a filter")
        .root_certificate(authority.path())
        .client_certificate(&own.certificate, &own.key)
        .header_filter(HeaderFilter::Always);
    let client = soon(Client::connect(&nats)).await.unwrap();
    soon(client.connection().round_trip(PATIENCE)).await.unwrap();
    // The password is the relay's as little as the connection's own.
    let error = soon(Client::connect(&nats.user("u", "wrong"))).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("wrong"), "{error:?}");
}

#[tokio::test]
async fn filtered_service_serves_on_after_a_server_restart() {
    let mut server = server();
    let running = start(&server, HeaderFilter::Always).await;
    server.kill();
    server.restart().unwrap();
    until_ready(&running).await;
    ping_is_answered(&server).await;
    send_raw(&server, &deadly("poison.ping")).await;
    ping_is_answered(&server).await;
    assert_eq!(running.connection().generation(), 0);
    soon(running.stop()).await;
}

/// Two instances of auth and users as they are deployed, by the user `client`, which publishes 20 poisons a second.
#[tokio::test(flavor = "multi_thread")]
async fn poisoned_auth_and_users_stay_usable() {
    let deployed = Deployed::start().await;
    let second = deployed.second(Trust::Secret).await;
    let user = deployed.sign_up("poison@example.com").await;
    let token = user["accessToken"].as_str().unwrap();
    let client = soon(Client::connect(&deployed.secured.config("client"))).await.unwrap();
    let client = client.bearer(token).timeout(LIMIT);
    let poisoning = tokio::spawn(poison(injector(&deployed.secured).await));
    let (mut log_ins, mut profiles) = (0, 0);
    for _ in 0..20 {
        let credentials = credentials("poison@example.com");
        let log_in = tokio::time::timeout(LIMIT, deployed.post("/api/auth/login", None, &credentials)).await;
        log_ins += u32::from(log_in.is_ok_and(|(status, _)| status == 200));
        profiles += u32::from(client.send::<Value>("get_user_profile", &json!({})).await.is_ok());
    }
    assert!(log_ins >= 18 && profiles >= 18, "{log_ins} and {profiles} of 20");
    assert!(!poisoning.is_finished());
    poisoning.abort();
    for running in [&deployed.auth, &deployed.users, &second[0], &second[1]] {
        let connection = running.connection();
        assert!(connection.generation() > 0 && connection.unreadable_messages() > 0, "{connection:?}");
    }
}

/// A client that does not look at subjects, so that whole lines of the protocol can be written into one.
async fn injector(secured: &Secured) -> async_nats::Client {
    let options = secured.options("client").skip_subject_validation(true);
    options.connect(secured.server.url()).await.unwrap()
}

async fn poison(nats: async_nats::Client) {
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    loop {
        for subject in ["auth.login", "get_user_profile"] {
            let lines = String::from_utf8(deadly(subject)).unwrap();
            nats.publish(format!("{subject} 0\r\n\r\n{lines}PUB {subject}"), Bytes::new()).await.unwrap();
        }
        beat.tick().await;
    }
}
