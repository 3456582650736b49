use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{ServerAddr, rustls};
use bytes::BytesMut;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::tls;
use crate::connection::NatsConfig;
use crate::connection::config::Tls;

/// The time limit for one server to accept a connection. It is shorter than async-nats' own timeout for the relay, so
/// that the next server is tried in time.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The number of remembered servers.
const MOST_SERVERS: usize = 64;
/// The usual size of a first line, in bytes.
const LINE: usize = 4 * 1024;
/// The longest accepted first line, in bytes.
const LINE_LIMIT: usize = 1024 * 1024;

/// The servers behind a relay, and the TLS settings for them.
pub(super) struct Upstream {
    /// The name of the connection on nats-server.
    pub(super) name: Option<String>,
    tls: Tls,
    encrypts: bool,
    rustls: Arc<rustls::ClientConfig>,
    /// The servers; the first is the next one to try.
    servers: Mutex<Vec<ServerAddr>>,
}

/// An open connection to a server.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Upstream {
    pub(super) async fn new(config: &NatsConfig) -> io::Result<Self> {
        let servers = config.addresses().map_err(io::Error::other)?;
        Ok(Self {
            name: config.name.clone(),
            tls: config.tls,
            encrypts: config.encrypts(),
            rustls: Arc::new(tls::client_config(config).await?),
            servers: Mutex::new(servers),
        })
    }

    /// Connects to the first reachable server; returns its `INFO` without the fields that concern only the relay.
    ///
    /// # Errors
    /// The error of the last server, if none is reachable.
    pub(super) async fn connect(&self) -> io::Result<(Value, Box<dyn Socket>)> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut last = io::Error::other("no server is named");
        for server in servers {
            match tokio::time::timeout(CONNECT_LIMIT, self.connect_to(&server)).await {
                Ok(Ok((mut info, socket))) => {
                    self.discover(&info);
                    if let Some(info) = info.as_object_mut() {
                        info.retain(|name, _| !name.starts_with("tls_") && name != "connect_urls");
                    }
                    return Ok((info, socket));
                }
                Ok(Err(error)) => last = error,
                Err(late) => last = late.into(),
            }
            self.servers.lock().unwrap_or_else(PoisonError::into_inner).rotate_left(1);
        }
        Err(last)
    }

    async fn connect_to(&self, server: &ServerAddr) -> io::Result<(Value, Box<dyn Socket>)> {
        let mut socket = TcpStream::connect((server.host(), server.port())).await?;
        socket.set_nodelay(true)?;
        let mut received = BytesMut::new();
        if self.tls == Tls::First {
            let mut socket = self.encrypt(server, socket).await?;
            let info = read_info(&mut socket, &mut received).await?;
            return alone(&received).map(|()| (info, Box::new(socket) as _));
        }
        let info = read_info(&mut socket, &mut received).await?;
        // Clear text behind `INFO` cannot be the server's: the server waits for the client.
        alone(&received)?;
        let asked = info.get("tls_required").and_then(Value::as_bool).unwrap_or(false);
        Ok(match self.encrypts || server.tls_required() || asked {
            true => (info, Box::new(self.encrypt(server, socket).await?)),
            false => (info, Box::new(socket)),
        })
    }

    async fn encrypt(&self, server: &ServerAddr, socket: TcpStream) -> io::Result<impl Socket + use<>> {
        let name = ServerName::try_from(server.host().to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.rustls.clone()).connect(name, socket).await
    }

    /// Adds the other servers of the cluster to the list.
    fn discover(&self, info: &Value) {
        let urls = info.get("connect_urls").and_then(Value::as_array).into_iter().flatten();
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        for server in urls.filter_map(|url| url.as_str()?.parse::<ServerAddr>().ok()) {
            if servers.len() < MOST_SERVERS && !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
}

async fn read_info(socket: &mut (impl AsyncRead + Unpin), received: &mut BytesMut) -> io::Result<Value> {
    let line = read_line(socket, received).await?;
    let json = line.strip_prefix("INFO ").ok_or_else(|| io::Error::other("a server did not begin with INFO"))?;
    serde_json::from_str(json).map_err(io::Error::other)
}

fn alone(received: &BytesMut) -> io::Result<()> {
    match received.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other("a server sent more than INFO before it was spoken to")),
    }
}

/// Reads a line without its line end; further bytes stay in `received`.
///
/// # Errors
/// If the connection ends, or the line is too long or not text.
pub(super) async fn read_line(socket: &mut (impl AsyncRead + Unpin), received: &mut BytesMut) -> io::Result<String> {
    loop {
        if let Some(end) = memchr::memmem::find(received, b"\r\n") {
            let line = received.split_to(end + 2);
            return std::str::from_utf8(&line[..end]).map(str::to_owned).map_err(io::Error::other);
        }
        if received.len() > LINE_LIMIT {
            return Err(io::Error::other("a first line is too long"));
        }
        received.reserve(LINE);
        if socket.read_buf(received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
