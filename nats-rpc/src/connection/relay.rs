//! A way to nats-server through a [filter](super::filter), by a socket of this process.
//!
//! async-nats opens its socket itself, so nothing can be put between the two but another socket. The relay listens on
//! a port of 127.0.0.1, connects to nats-server for each connection that it accepts, and passes the bytes on. It
//! encrypts what goes to nats-server; the login stays async-nats' own. The port admits only this process: the first
//! line of a connection has to hold a secret that is made for each relay.

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

/// Largest read, in bytes.
const CHUNK: usize = 64 * 1024;
/// Time limit for the first line of a connection.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// Number of connections that may be open before they have shown the secret.
const STRANGERS: usize = 8;
/// Time for which nats-server may accept no bytes. async-nats has given it up by then, unless its pings are rarer.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// The pause after a connection that could not be accepted, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener of one client of async-nats. Dropping it ends the port; a connection ends with its client.
pub(super) struct Relay {
    port: u16,
    secret: String,
    accepting: AbortHandle,
}

impl Relay {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is none, or if the certificates of `config` cannot be used.
    pub(super) async fn open(config: &NatsConfig, watch: &Arc<Watch>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let secret = secret();
        let upstream = Arc::new(Upstream::new(config).await?);
        let passage = Arc::new(Passage { upstream, secret: secret.clone(), watch: watch.clone() });
        let accepting = tokio::spawn(accept(listener, passage)).abort_handle();
        Ok(Self { port, secret, accepting })
    }

    /// The address for async-nats.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The name that async-nats has to give itself.
    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// 256 bits that nobody else knows.
fn secret() -> String {
    (0..4_u8).fold(String::new(), |mut secret, number| {
        // Each state has keys of its own. A string takes everything.
        let _ = write!(secret, "{:016x}", RandomState::new().hash_one(number));
        secret
    })
}

/// State that the connections of one relay share.
struct Passage {
    upstream: Arc<Upstream>,
    secret: String,
    watch: Arc<Watch>,
}

async fn accept(listener: TcpListener, passage: Arc<Passage>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    // It is never closed.
    while let Ok(stranger) = strangers.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((client, _)) => {
                let passage = passage.clone();
                // Not ended with the relay: what async-nats has written is still to be passed on.
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
    /// Passes one connection on until either side ends it.
    ///
    /// # Errors
    /// If no server can be reached, or the client is not of this process.
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
        // Either side ends both directions, as NATS does. Each has passed on all that came before the end.
        let ended = tokio::select! {
            ended = to_server(received, client_reads, server_writes) => ended,
            ended = self.to_client(server_reads, client_writes) => ended,
        };
        // A connection that breaks is the client's to notice.
        drop(ended);
        Ok(())
    }

    /// Returns the first line for nats-server, if the client's has the secret.
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
        // Some may have come behind the first line.
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
    // While this waits nobody notices that the client has gone.
    tokio::time::timeout(WRITE_LIMIT, written).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that begins with `INFO`; what it is sent before the end of a connection.
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
        // Closed, or reset, as it said more than was read.
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
        // Bytes that were written before the end still arrive.
        drop((client, relay));
        assert_eq!(hearing.await.unwrap(), "CONNECT {\"name\":\"users\",\"sig\":\"s\"}\r\nPING\r\n");
    }
}
