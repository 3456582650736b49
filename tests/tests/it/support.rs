//! Helpers shared by the tests.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::datetime::parse_rfc3339;
use async_nats::jetstream::stream::Stream;
use async_nats::{HeaderMap, Message};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::TryStreamExt;
use nats_rpc::testing::NatsServer;
use nats_rpc::{Client, NatsConfig, ServiceHandle};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longer than any successful step takes, so that a hang differs from slowness.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn nats(server: &NatsServer) -> NatsConfig {
    NatsConfig::new(server.url())
}

pub(crate) async fn client(server: &NatsServer) -> Client {
    Client::connect(&nats(server)).await.unwrap().timeout(PATIENCE)
}

/// Connects a caller with plain async-nats.
pub(crate) async fn foreign(server: &NatsServer) -> async_nats::Client {
    async_nats::connect(server.url()).await.unwrap()
}

/// Panics if `what` takes so long that it must be a hang.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far too long: a hang")
}

/// Waits until a service passes its readiness check.
///
/// A check without a connection fails at once, so the loop pauses. Otherwise the runtime of the test would never run
/// the reconnecting task.
pub(crate) async fn until_ready(running: &ServiceHandle) {
    let ready = async {
        while running.check(PATIENCE).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(ready).await;
}

/// Returns the code in an error reply's headers; 0 for a success.
pub(crate) fn code(message: &Message) -> u16 {
    let header = |name| message.headers.as_ref().and_then(|headers| headers.get(name));
    match header("Nats-Service-Error-Code") {
        Some(code) => {
            assert!(!header("Nats-Service-Error").unwrap().as_str().is_empty());
            assert!(!message.payload.is_empty(), "an error has a body");
            code.as_str().parse().unwrap()
        }
        None => 0,
    }
}

pub(crate) async fn request(nats: &async_nats::Client, subject: &str, body: impl Into<Bytes>) -> Message {
    soon(nats.request(subject.to_owned(), body.into())).await.unwrap()
}

pub(crate) async fn request_with(
    nats: &async_nats::Client,
    subject: &str,
    headers: &[(&'static str, &str)],
    body: impl Into<Bytes>,
) -> Message {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, *value);
    }
    soon(nats.request_with_headers(subject.to_owned(), map, body.into())).await.unwrap()
}

/// Stops delivery of new entries to the present watchers of a bucket's stream. They do not notice, because heartbeats
/// continue.
pub(crate) async fn silence<I>(stream: &Stream<I>) {
    let names: Vec<String> = stream.consumer_names().try_collect().await.unwrap();
    assert!(!names.is_empty(), "somebody follows");
    let later = parse_rfc3339("2100-01-01T00:00:00Z").unwrap();
    for name in names {
        assert!(stream.pause_consumer(&name, later).await.unwrap().paused);
    }
}

/// Sends bytes that no client library would, over raw TCP.
pub(crate) async fn send_raw(server: &NatsServer, lines: &[u8]) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let connect: &[u8] = br#"CONNECT {"verbose":false,"headers":true,"no_responders":true}"#;
    socket.write_all(&[connect, &b"\r\n"[..], lines, b"PING\r\n"].concat()).await.unwrap();
    let mut heard = Vec::new();
    let pong = async {
        while !heard.windows(6).any(|window| window == b"PONG\r\n") {
            let mut buffer = [0; 4096];
            let count = socket.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "the server hung up: {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..count]);
        }
    };
    soon(pong).await;
}

/// Returns the RFC 7638 thumbprint of a key, from its required members only.
pub(crate) fn thumbprint(jwk: &Value) -> String {
    let sorted: BTreeMap<_, _> = jwk.as_object().unwrap().iter().collect();
    URL_SAFE_NO_PAD.encode(Sha256::digest(serde_json::to_vec(&sorted).unwrap()))
}
