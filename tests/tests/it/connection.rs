//! Starts and connections that cannot be.

use std::time::Duration;

use nats_rpc::prelude::*;
use nats_rpc::{Client, ConnectError, Connection, ConnectionState, KvBucket, KvError, NatsConfig, StartError, Status};
use nats_rpc_tests::{server, server_with};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::{PATIENCE, client, nats, soon};

#[message_pattern("conn.ping")]
async fn ping() -> &'static str {
    "pong"
}

fn service() -> Service {
    Service::new("conn", "1.0.0").handlers(handlers![ping])
}

#[tokio::test]
async fn a_start_waits_for_nats_server_and_then_says_that_it_is_not_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nats =
        NatsConfig::new(format!("nats://user:hunter2@127.0.0.1:{port}")).connect_timeout(Duration::from_millis(600));
    let error = soon(service().start(nats)).await.unwrap_err();
    assert!(matches!(error, StartError::Connect(ConnectError::Unreachable { .. })), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_start_goes_on_when_nats_server_comes_up() {
    let mut server = server();
    server.kill();
    let starting = tokio::spawn(service().start(nats(&server).connect_timeout(PATIENCE)));
    // It has looked for the server in vain at least once by the time that one is up.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.restart().unwrap();
    let _running = soon(starting).await.unwrap().unwrap();
    assert_eq!(client(&server).await.send::<String>("conn.ping", &()).await.unwrap(), "pong");
}

#[tokio::test]
async fn wrong_credentials_are_refused_at_once() {
    let config = "authorization { user: u, password: p }";
    let server = server_with(|builder| builder.config(config));
    let nats = NatsConfig::new(server.url()).user("u", "hunter2").connect_timeout(PATIENCE * 10);
    let error = soon(service().start(nats)).await.unwrap_err();
    assert!(matches!(error, StartError::Connect(ConnectError::Refused { .. })), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn credentials_of_the_url_are_used() {
    let server = server_with(|builder| builder.config("authorization { user: joe, password: \"p@ss,/\" }"));
    let url = |credentials: &str| server.url().replace("nats://", &format!("nats://{credentials}@"));
    let running = soon(service().start(NatsConfig::new(url("joe:p%40ss%2C%2F")))).await.unwrap();
    soon(running.stop()).await;
    let error = soon(service().start(NatsConfig::new(url("joe:hunter2")))).await.unwrap_err();
    assert!(matches!(error, StartError::Connect(ConnectError::Refused { .. })), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");

    let server = server_with(|builder| builder.config("authorization { token: s3cret }"));
    let url = server.url().replace("nats://", "nats://s3cret@");
    soon(soon(service().start(NatsConfig::new(url))).await.unwrap().stop()).await;
}

/// The user is known to one server of two; each of 8 starts would find the other one first by chance.
#[tokio::test]
async fn server_that_refuses_the_login_is_passed_over() {
    let good = server_with(|builder| builder.config("authorization { user: u, password: p }"));
    let bad = server_with(|builder| builder.config("authorization { user: other, password: p }"));
    let nats = |urls: String| NatsConfig::new(urls).user("u", "p").connect_timeout(PATIENCE * 10);
    for _ in 0..8 {
        let running = soon(service().start(nats(format!("{},{}", bad.url(), good.url())))).await.unwrap();
        soon(running.check(PATIENCE)).await.unwrap();
        soon(running.stop()).await;
    }
    let error = soon(service().start(nats(format!("{},{}", bad.url(), bad.url())))).await.unwrap_err();
    assert!(matches!(error, StartError::Connect(ConnectError::Refused { .. })), "{error}");
}

#[tokio::test]
async fn a_forbidden_subscription_stops_the_start() {
    let config = r#"authorization { users: [ { user: u, password: p, permissions: { publish: ">", subscribe: ["_INBOX_conn.>"] } } ] }"#;
    let server = server_with(|builder| builder.config(config));
    let error = soon(service().start(NatsConfig::new(server.url()).user("u", "p"))).await.unwrap_err();
    let StartError::Forbidden(subjects) = &error else { panic!("{error}") };
    assert_eq!(subjects, &["conn.ping"]);
}

#[message_pattern({"cmd": "conn"})]
async fn object_pattern() -> &'static str {
    "pong"
}

/// nats-server writes the subject with `%q`, so quotes inside it are escaped.
#[tokio::test]
async fn forbidden_object_pattern_is_reported_at_once() {
    let config = r#"authorization { users: [
        { user: all, password: p },
        { user: u, password: p, permissions: { publish: ["_INBOX.>", "_INBOX_conn.>"], subscribe: ["_INBOX_conn.>", "_INBOX.>"] } } ] }"#;
    let server = server_with(|builder| builder.config(config));
    let service = || Service::new("conn", "1.0.0").handlers(handlers![object_pattern]);
    let error = soon(service().start(NatsConfig::new(server.url()).user("u", "p"))).await.unwrap_err();
    let StartError::Forbidden(subjects) = &error else { panic!("{error}") };
    assert_eq!(subjects, &[r#"{"cmd":"conn"}"#]);

    let _running = soon(service().start(NatsConfig::new(server.url()).user("all", "p"))).await.unwrap();
    let client = Client::connect(&NatsConfig::new(server.url()).user("u", "p")).await.unwrap().timeout(PATIENCE * 10);
    let error = soon(client.nest().send::<String>(r#"{"cmd": "conn"}"#, &())).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::Forbidden { .. }), "{error}");
}

#[tokio::test]
async fn whoever_may_not_use_their_own_inbox_is_told_so_at_once() {
    let config = r#"authorization { users: [ { user: u, password: p, permissions: { publish: ">", subscribe: ["conn.>", "_INBOX.>"] } } ] }"#;
    let server = server_with(|builder| builder.config(config));
    let nats = NatsConfig::new(server.url()).user("u", "p");
    let error = soon(service().start(nats.clone())).await.unwrap_err();
    assert!(matches!(&error, StartError::Inbox { prefix, .. } if prefix == "_INBOX_conn"), "{error}");
    let running = soon(service().start(nats.clone().inbox_prefix("_INBOX"))).await.unwrap();

    let deaf = Client::connect(&nats.clone().inbox_prefix("_INBOX_deaf")).await.unwrap().timeout(PATIENCE * 10);
    for _ in 0..2 {
        let error = soon(deaf.send::<String>("conn.ping", &())).await.unwrap_err();
        assert!(matches!(error, nats_rpc::CallError::InboxForbidden { .. }), "{error}");
    }
    let client = Client::connect(&nats).await.unwrap().timeout(PATIENCE);
    assert_eq!(soon(client.send::<String>("conn.ping", &())).await.unwrap(), "pong");
    soon(running.stop()).await;
}

#[tokio::test]
async fn a_bucket_that_this_user_may_not_ask_for_is_named_at_once() {
    let config = r#"authorization { users: [ { user: u, password: p, permissions: { publish: ["$JS.API.STREAM.INFO.KV_mine"] } } ] }"#;
    let server = server_with(|builder| builder.config(config));
    let connection = Connection::open(&NatsConfig::new(server.url()).user("u", "p")).await.unwrap();
    let open = async |name: &'static str| soon(KvBucket::open(&connection, name)).await.unwrap_err();
    assert!(matches!(open("mine").await, KvError::Missing { .. }));
    let error = open("theirs").await;
    assert!(
        matches!(&error, KvError::Forbidden { subject, .. } if subject == "$JS.API.STREAM.INFO.KV_theirs"),
        "{error}"
    );
}

#[tokio::test]
async fn a_service_serves_on_after_nats_server_was_away() {
    let mut server = server();
    let running = service().start(nats(&server)).await.unwrap();
    server.kill();
    server.restart().unwrap();
    soon(running.check(PATIENCE)).await.unwrap();
    assert_eq!(client(&server).await.send::<String>("conn.ping", &()).await.unwrap(), "pong");
}

/// A server that has announced its end serves to the last moment; who asks whether requests reach the service
/// must not take it for an outage.
#[tokio::test]
async fn a_lame_duck_is_served_with_until_it_is_gone() {
    let mut server = server();
    let running = service().start(nats(&server)).await.unwrap();
    let client = client(&server).await;
    server.lame_duck().unwrap();
    for connection in [running.connection(), client.connection()] {
        soon(connection.wait_for(|state| *state == ConnectionState::LameDuck)).await;
    }
    running.check(PATIENCE).await.unwrap();
    assert_eq!(client.send::<String>("conn.ping", &()).await.unwrap(), "pong");
    server.kill();
    server.restart().unwrap();
    for connection in [running.connection(), client.connection()] {
        soon(connection.wait_for(|state| *state == ConnectionState::Connected)).await;
    }
    soon(running.check(PATIENCE)).await.unwrap();
    assert_eq!(client.send::<String>("conn.ping", &()).await.unwrap(), "pong");
}

#[tokio::test]
async fn the_status_follows_the_stop() {
    let server = server();
    let running = service().start(nats(&server)).await.unwrap();
    let mut status = running.status();
    assert_eq!(*status.borrow_and_update(), Status::Ready);
    running.check(PATIENCE).await.unwrap();
    soon(running.stop()).await;
    assert_eq!(*status.borrow_and_update(), Status::Stopped);
    let error = client(&server).await.send::<String>("conn.ping", &()).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::NoResponders { .. }), "{error}");
}

#[tokio::test]
async fn no_limit_and_no_time_are_settings_like_any_other() {
    let server = server();
    let nats = nats(&server).connect_timeout(Duration::MAX).ping_interval(Duration::ZERO).subscription_capacity(0);
    let limits = nats_rpc::Limits { timeout: Duration::MAX, shutdown_timeout: Duration::MAX, ..Default::default() };
    let running = soon(service().limits(limits).start(nats)).await.unwrap();
    let client = client(&server).await.timeout(Duration::MAX).no_responders_timeout(Duration::MAX);
    assert_eq!(soon(client.send::<String>("conn.ping", &())).await.unwrap(), "pong");
    soon(client.emit("conn.ping", &())).await.unwrap();
    soon(running.stop()).await;
}

#[tokio::test]
async fn messages_that_a_full_subscription_cost_are_counted_and_the_service_goes_on() {
    let server = server();
    let running = service().start(nats(&server).subscription_capacity(1)).await.unwrap();
    assert_eq!(running.connection().slow_consumer_drops(), 0);
    let caller = crate::support::foreign(&server).await;
    let flood = async {
        while running.connection().slow_consumer_drops() == 0 {
            for _ in 0..1_000 {
                caller.publish("conn.ping", "".into()).await.unwrap();
            }
            caller.flush().await.unwrap();
        }
    };
    soon(flood).await;
    soon(running.check(PATIENCE)).await.unwrap();
    assert_eq!(client(&server).await.send::<String>("conn.ping", &()).await.unwrap(), "pong");
}

/// A server that floods one subscription and hangs up in the same breath, once it has a call that it never answers.
async fn flooding_server() -> (String, tokio::task::JoinHandle<tokio::net::TcpStream>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = BufReader::new(socket);
        let info = r#"INFO {"server_id":"s","version":"2.15.1","proto":1,"host":"h","port":1,"headers":true,"max_payload":1048576,"client_id":1}"#;
        socket.get_mut().write_all(format!("{info}\r\n").as_bytes()).await.unwrap();
        let (mut flooded, mut line) = (None, String::new());
        loop {
            line.clear();
            assert_ne!(socket.read_line(&mut line).await.unwrap(), 0);
            let words: Vec<_> = line.split_whitespace().collect();
            match *words.as_slice() {
                ["PING"] => socket.get_mut().write_all(b"PONG\r\n").await.unwrap(),
                ["SUB", "flood", sid] => flooded = Some(sid.to_owned()),
                ["PUB" | "HPUB", "silent", ..] => break,
                _ => {}
            }
        }
        let flood = format!("MSG flood {} 0\r\n\r\n", flooded.unwrap()).repeat(1_000);
        let mut socket = socket.into_inner();
        socket.write_all(flood.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        // Kept open: what was not read would turn the end into a reset.
        socket
    });
    (url, serving)
}

/// async-nats drops events that do not fit into their channel, and with them the one that tells of the break.
#[tokio::test]
async fn flood_does_not_hide_a_broken_connection() {
    let (url, serving) = flooding_server().await;
    let connection = Connection::open(&NatsConfig::new(url).subscription_capacity(1)).await.unwrap();
    let _unread = connection.nats().subscribe("flood").await.unwrap();
    let client = Client::new(connection.clone()).timeout(PATIENCE * 10);
    let error = soon(client.send::<()>("silent", &())).await.unwrap_err();
    assert!(matches!(error, nats_rpc::CallError::ConnectionLost { .. }), "{error}");
    assert_eq!(connection.state(), ConnectionState::Disconnected);
    drop(serving.await.unwrap());
}

/// The answers of all clones are read where the connection lives, not where the first call was made: in a runtime that
/// has ended, or in one that nothing drives.
#[tokio::test]
async fn replies_need_no_runtime_of_the_first_call() {
    let server = server();
    let _running = service().start(nats(&server)).await.unwrap();
    for ends in [true, false] {
        let client = client(&server).await;
        let first = client.clone();
        let called = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            assert_eq!(runtime.block_on(first.send::<String>("conn.ping", &())).unwrap(), "pong");
            (!ends).then_some(runtime)
        });
        let idle = soon(called).await.unwrap();
        assert_eq!(soon(client.send::<String>("conn.ping", &())).await.unwrap(), "pong");
        if let Some(idle) = idle {
            idle.shutdown_background();
        }
    }
}
