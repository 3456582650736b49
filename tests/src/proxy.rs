//! A TCP proxy in this process that delays, cuts and freezes connections.

mod pump;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::pump::Direction;

/// A listener on loopback that forwards all connections to one port, with the faults that a test chooses.
///
/// Put it between a client and its nats-server: give the client [`url`](Self::url). Dropping the proxy closes every
/// connection through it.
///
/// ```no_run
/// use std::time::Duration;
/// use nats_rpc_tests::proxy::{Proxy, Which};
///
/// # async fn test() -> std::io::Result<()> {
/// let server = nats_rpc_tests::server();
/// let proxy = Proxy::to(server.port()).delay(Duration::from_millis(10)).start().await?;
/// // … connect to proxy.url(), call, and then:
/// proxy.cut(Which::All).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the proxy ends when this is dropped"]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accept: JoinHandle<()>,
}

/// The id of a connection through a [`Proxy`], ordered by time of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// Selects the connections of a [`Proxy`] for an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every connection; for a freeze, also future ones.
    All,
    /// Only this connection.
    One(ConnectionId),
}

/// A builder for a [`Proxy`].
#[derive(Clone, Debug)]
#[must_use = "it listens only once it is started"]
pub struct ProxyBuilder {
    target: u16,
    delay: Duration,
    split: Option<u64>,
}

#[derive(Debug)]
struct Shared {
    settings: ProxyBuilder,
    frozen: watch::Sender<bool>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    next: u64,
    open: BTreeMap<ConnectionId, Connection>,
}

#[derive(Debug)]
struct Connection {
    frozen: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Returns a builder for a proxy to `port` of 127.0.0.1, without any delay.
    pub fn to(port: u16) -> ProxyBuilder {
        ProxyBuilder { target: port, delay: Duration::ZERO, split: None }
    }

    /// Returns the URL for NATS clients, `nats://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Returns the open connections.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.shared.lock().open.keys().copied().collect()
    }

    /// Closes connections at once, and drops all bytes in transit through them.
    pub async fn cut(&self, which: Which) {
        let cut: Vec<Connection> = {
            let mut connections = self.shared.lock();
            match which {
                Which::All => std::mem::take(&mut connections.open).into_values().collect(),
                Which::One(id) => connections.open.remove(&id).into_iter().collect(),
            }
        };
        for connection in cut {
            connection.task.abort();
            // An aborted task ends with a cancellation error.
            let _ = connection.task.await;
        }
    }

    /// Holds back all bytes without closing either end.
    pub fn freeze(&self, which: Which) {
        self.set_frozen(which, true);
    }

    /// Ends a freeze; bytes held back follow.
    pub fn resume(&self, which: Which) {
        self.set_frozen(which, false);
    }

    fn set_frozen(&self, which: Which, frozen: bool) {
        match which {
            Which::All => {
                self.shared.frozen.send_replace(frozen);
                for connection in self.shared.lock().open.values() {
                    connection.frozen.send_replace(frozen);
                }
            }
            Which::One(id) => {
                if let Some(connection) = self.shared.lock().open.get(&id) {
                    connection.frozen.send_replace(frozen);
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accept.abort();
        for connection in self.shared.lock().open.values() {
            connection.task.abort();
        }
    }
}

impl ProxyBuilder {
    /// Sets the delay of every byte in each direction; a round trip takes twice that.
    pub fn delay(mut self, one_way: Duration) -> Self {
        self.delay = one_way;
        self
    }

    /// Forwards bytes in pieces of random sizes, the same for the same `seed`, so that readers see messages cut in the
    /// middle.
    pub fn split(mut self, seed: u64) -> Self {
        self.split = Some(seed);
        self
    }

    /// Listens on a free port.
    ///
    /// # Errors
    /// If there is none.
    pub async fn start(self) -> io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            settings: self,
            frozen: watch::Sender::new(false),
            connections: Mutex::new(Connections::default()),
        });
        let accept = tokio::spawn(accept(listener, shared.clone()));
        Ok(Proxy { port, shared, accept })
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A failed accept, for example without free descriptors, affects only that connection.
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut connections = shared.lock();
        let id = ConnectionId(connections.next);
        connections.next += 1;
        let frozen = watch::Sender::new(*shared.frozen.borrow());
        let seen = frozen.subscribe();
        let (settings, owner) = (shared.settings.clone(), Arc::downgrade(&shared));
        let task = tokio::spawn(async move {
            // Either end may close at any time; for a proxy that is no error.
            let _ = relay(client, &settings, id, seen).await;
            if let Some(shared) = owner.upgrade() {
                shared.lock().open.remove(&id);
            }
        });
        // The task cannot end before its entry exists: it needs the lock that is held here.
        connections.open.insert(id, Connection { frozen, task });
    }
}

async fn relay(
    client: TcpStream,
    settings: &ProxyBuilder,
    id: ConnectionId,
    frozen: watch::Receiver<bool>,
) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", settings.target)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let direction = |number| Direction {
        delay: settings.delay,
        split: settings.split.map(|seed| fastrand::Rng::with_seed(seed ^ (id.0 * 2 + number))),
        frozen: frozen.clone(),
    };
    // As soon as one direction ends, so does the other: NATS closes both at once.
    tokio::select! {
        ended = direction(0).pump(from_client, to_server) => ended,
        ended = direction(1).pump(from_server, to_client) => ended,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Returns a port that echoes all bytes.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = socket.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        port
    }

    async fn ping(socket: &mut TcpStream) -> io::Result<()> {
        socket.write_all(b"ping").await?;
        let mut back = [0; 4];
        socket.read_exact(&mut back).await?;
        assert_eq!(&back, b"ping");
        Ok(())
    }

    #[tokio::test]
    async fn every_byte_takes_the_delay_in_each_direction() {
        let delay = Duration::from_millis(20);
        let proxy = Proxy::to(echo().await).delay(delay).start().await.unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        for _ in 0..3 {
            let started = Instant::now();
            ping(&mut socket).await.unwrap();
            assert!(started.elapsed() >= delay * 2);
        }
    }

    #[tokio::test]
    async fn a_cut_ends_one_connection_and_not_the_other() {
        let proxy = Proxy::to(echo().await).split(7).start().await.unwrap();
        let mut first = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        ping(&mut first).await.unwrap();
        let id = proxy.connections()[0];
        let mut second = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        ping(&mut second).await.unwrap();
        proxy.cut(Which::One(id)).await;
        assert!(ping(&mut first).await.is_err());
        ping(&mut second).await.unwrap();
        drop(proxy);
        assert!(ping(&mut second).await.is_err());
    }

    #[tokio::test]
    async fn what_is_sent_into_a_freeze_arrives_after_it() {
        let proxy = Proxy::to(echo().await).start().await.unwrap();
        let mut socket = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        ping(&mut socket).await.unwrap();
        proxy.freeze(Which::All);
        socket.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        let held = tokio::time::timeout(Duration::from_millis(50), socket.read_exact(&mut back)).await;
        assert!(held.is_err());
        proxy.resume(Which::All);
        socket.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
    }
}
