//! A local relay that connects to nats-server through a [filter](super::filter).
//!
//! async-nats opens its socket itself, so only another socket can intercept the bytes. The relay listens on a port of
//! 127.0.0.1, connects to nats-server for each connection that it accepts, and forwards the bytes. It encrypts the
//! connection to nats-server; async-nats still performs the login. The port admits only this process: the first line
//! of a connection must contain a secret, which is generated for each relay.

mod tls;
mod upstream;

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use self::upstream::{Upstream, read_line};
use super::NatsConfig;
use super::filter::{Filter, Output};
use super::watch::Watch;

/// The largest read, in bytes.
const CHUNK: usize = 64 * 1024;
/// The time limit for the first line of a connection.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// The maximum number of connections that have not yet shown the secret.
const STRANGERS: usize = 8;
/// The longest time that a write to nats-server may block. By then async-nats has closed the connection, unless its
/// ping interval is longer.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// The pause after a failed accept, for example when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener of one async-nats client. Dropping it closes the port; a connection ends with its client.
pub(super) struct Relay {
    port: u16,
    secret: String,
    accepting: AbortHandle,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If no port is free, or if the certificates of `config` cannot be used.
    pub(super) async fn open(config: &NatsConfig, watch: &Arc<Watch>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let secret = secret();
        let upstream = Arc::new(Upstream::new(config).await?);
        let passage = Arc::new(Passage { upstream, secret: secret.clone(), watch: watch.clone() });
        let accepting = tokio::spawn(accept(listener, passage)).abort_handle();
        Ok(Self { port, secret, accepting })
    }

    /// Returns the address for async-nats.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the name that async-nats must send in its first line.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Returns 256 secret random bits.
fn secret() -> String {
    (0..4_u8).fold(String::new(), |mut secret, number| {
        // Each state has its own keys. Writing to a string cannot fail.
        let _ = write!(secret, "{:016x}", RandomState::new().hash_one(number));
        secret
    })
}

/// The state that the connections of one relay share.
struct Passage {
    upstream: Arc<Upstream>,
    secret: String,
    watch: Arc<Watch>,
}

async fn accept(listener: TcpListener, passage: Arc<Passage>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    // The semaphore is never closed.
    while let Ok(stranger) = strangers.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                let passage = passage.clone();
                // This task outlives the relay: bytes that async-nats has written must still be forwarded.
                tokio::spawn(async move {
                    if let Err(error) = passage.pass(client, stranger).await {
                        passage.watch.relay_failed(&error);
                    }
                });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

impl Passage {
    /// Forwards one connection until either side ends it.
    ///
    /// # Errors
    /// If no server can be reached, or the client does not belong to this process.
    async fn pass(&self, mut client: TcpStream, stranger: OwnedSemaphorePermit) -> io::Result<()> {
        client.set_nodelay(true)?;
        let (info, server) = self.upstream.connect().await?;
        client.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
        let mut received = BytesMut::new();
        let hello = tokio::time::timeout(HELLO_LIMIT, read_line(&mut client, &mut received)).await;
        let hello = self.admit(&hello??)?;
        drop(stranger);
        let (server_reads, mut server_writes) = tokio::io::split(server);
        write(&mut server_writes, hello.as_bytes()).await?;
        let (client_reads, client_writes) = client.into_split();
        // Either side ends both directions, as in NATS. Each direction has forwarded all bytes that came before the
        // end.
        let ended = tokio::select! {
            ended = to_server(received, client_reads, server_writes) => ended,
            ended = self.to_client(server_reads, client_writes) => ended,
        };
        // The client detects a broken connection itself.
        drop(ended);
        Ok(())
    }

    /// Returns the first line for nats-server if the client's line contains the secret.
    fn admit(&self, line: &str) -> io::Result<String> {
        let stranger = || io::Error::new(io::ErrorKind::PermissionDenied, "a connection of another process was closed");
        let options = line.strip_prefix("CONNECT ").and_then(|json| serde_json::from_str(json).ok());
        let mut options: serde_json::Map<String, Value> = options.ok_or_else(stranger)?;
        if options.get("name").and_then(Value::as_str) != Some(&self.secret) {
            return Err(stranger());
        }
        match &self.upstream.name {
            Some(name) => drop(options.insert("name".to_owned(), name.as_str().into())),
            None => drop(options.remove("name")),
        }
        Ok(format!("CONNECT {}\r\n", Value::Object(options)))
    }

    async fn to_client(
        &self,
        mut server: impl AsyncRead + Unpin,
        mut client: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut filter = Filter::default();
        loop {
            let input = filter.input();
            input.reserve(CHUNK);
            if server.read_buf(input).await? == 0 {
                return Ok(());
            }
            while let Some(output) = filter.next() {
                match output {
                    Output::Passed(bytes) => client.write_all(&bytes).await?,
                    Output::Replaced(bytes) => {
                        self.watch.unreadable();
                        client.write_all(&bytes).await?;
                    }
                }
            }
        }
    }
}

async fn to_server(
    mut buffer: BytesMut,
    mut client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    loop {
        // More bytes may have arrived with the first line.
        if !buffer.is_empty() {
            write(&mut server, &buffer).await?;
            buffer.clear();
        }
        buffer.reserve(CHUNK);
        if client.read_buf(&mut buffer).await? == 0 {
            return server.shutdown().await;
        }
    }
}

async fn write(server: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let written = async {
        server.write_all(bytes).await?;
        server.flush().await
    };
    // During this wait, the relay does not notice that the client has disconnected.
    tokio::time::timeout(WRITE_LIMIT, written).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that begins with `INFO`; returns the bytes that it receives before the connection ends.
    async fn server() -> (NatsConfig, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let config = NatsConfig::new(format!("nats://{}", listener.local_addr().unwrap())).name("users");
        let hearing = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let info = "INFO {\"nonce\":\"n\",\"tls_available\":true,\"connect_urls\":[\"10.0.0.1:4222\"]}\r\n";
            socket.write_all(info.as_bytes()).await.unwrap();
            let mut heard = String::new();
            socket.read_to_string(&mut heard).await.unwrap();
            heard
        });
        (config, hearing)
    }

    async fn say(relay: &Relay, line: &str) -> (String, TcpStream) {
        let mut client = TcpStream::connect(("127.0.0.1", relay.port)).await.unwrap();
        let info = read_line(&mut client, &mut BytesMut::new()).await.unwrap();
        client.write_all(line.as_bytes()).await.unwrap();
        (info, client)
    }

    #[tokio::test]
    async fn a_stranger_reaches_no_server() {
        let (config, hearing) = server().await;
        let relay = Relay::open(&config, &Arc::default()).await.unwrap();
        let (_, mut client) = say(&relay, "CONNECT {\"name\":\"users\"}\r\nPUB a 0\r\n\r\n").await;
        // The connection is closed, or reset because it sent more than the relay read.
        assert!(client.read(&mut [0]).await.is_ok_and(|count| count == 0) || client.write_all(b"PING").await.is_err());
        assert_eq!(hearing.await.unwrap(), "");
    }

    #[tokio::test]
    async fn the_client_of_the_relay_is_passed_on_under_its_own_name() {
        let (config, hearing) = server().await;
        let relay = Relay::open(&config, &Arc::default()).await.unwrap();
        let hello = format!("CONNECT {{\"name\":\"{}\",\"sig\":\"s\"}}\r\nPING\r\n", relay.secret());
        let (info, client) = say(&relay, &hello).await;
        assert_eq!(info, "INFO {\"nonce\":\"n\"}");
        // Bytes written before the end still arrive.
        drop((client, relay));
        assert_eq!(hearing.await.unwrap(), "CONNECT {\"name\":\"users\",\"sig\":\"s\"}\r\nPING\r\n");
    }
}
