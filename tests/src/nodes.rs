//! A cluster of three nats-servers whose nodes tests can kill or retire.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use nats_rpc::testing::NatsServer;

/// Maximum time of an election; the longest observed one took 8.5 s.
pub const ELECTION_LIMIT: Duration = Duration::from_secs(30);
const COUNT: usize = 3;
/// Maximum time of a lame duck; with a handful of clients it takes some 5 s.
const LAME_DUCK_LIMIT: Duration = Duration::from_secs(40);

/// Three nats-servers in a cluster, with JetStream.
#[derive(Debug)]
pub struct Nodes(Vec<(String, NatsServer)>);

impl Nodes {
    /// Starts them; they may still be electing the node that creates streams.
    ///
    /// # Panics
    /// If there are no three ports, or as [`server`](crate::server()).
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts them with additional configuration, such as accounts.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn start_with(more: &str) -> Self {
        let ports = free_ports();
        let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let start = |(index, port): (usize, &u16)| {
            let name = format!("node-{index}");
            let config = format!(
                "server_name: {name}\nlame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n\
                 cluster {{ name: chaos, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n{more}"
            );
            (name, crate::server_with(|builder| builder.config(config)))
        };
        Self(ports.iter().enumerate().map(start).collect())
    }

    /// Returns the URLs of all nodes.
    pub fn urls(&self) -> String {
        self.0.iter().map(|(_, server)| server.url()).collect::<Vec<_>>().join(",")
    }

    /// Returns the names of all nodes, as the nodes use them.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(name, _)| name.clone())
    }

    /// Returns the URL of one node.
    ///
    /// # Panics
    /// If there is no node of this name; so do all methods that take a name.
    pub fn url(&mut self, name: &str) -> String {
        self.named(name).url()
    }

    /// Kills a node.
    ///
    /// # Panics
    /// On a runtime of a single thread.
    pub fn kill(&mut self, name: &str) {
        tokio::task::block_in_place(|| self.named(name).kill());
    }

    /// Sends a node into lame duck mode, and waits until it has left.
    ///
    /// # Panics
    /// If the node does not run, or has not left after 40 s.
    pub async fn retire(&mut self, name: &str) {
        let server = self.named(name);
        server.lame_duck().expect("the node runs");
        let leaving = async {
            while !server.log().contains("Server Exiting") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LAME_DUCK_LIMIT, leaving).await.expect("a lame duck dies");
    }

    /// Restarts a node, on its port and its store.
    ///
    /// # Panics
    /// If the node does not start, or on a runtime of a single thread.
    pub fn restart(&mut self, name: &str) {
        tokio::task::block_in_place(|| self.named(name).restart()).expect("the node starts again");
    }

    fn named(&mut self, name: &str) -> &mut NatsServer {
        let node = self.0.iter_mut().find(|(known, _)| known == name);
        node.map(|(_, server)| server).expect("the leader is one of the nodes")
    }
}

/// Returns the node that leads a stream.
///
/// # Panics
/// If no node does within [`ELECTION_LIMIT`].
pub async fn leader(jetstream: &jetstream::Context, stream: &str) -> String {
    let began = Instant::now();
    loop {
        if let Ok(stream) = jetstream.get_stream(stream).await
            && let Some(leader) = stream.cached_info().cluster.as_ref().and_then(|cluster| cluster.leader.clone())
        {
            return leader;
        }
        assert!(began.elapsed() < ELECTION_LIMIT, "the stream has no leader");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns ports for the routes, which nats-server cannot choose by itself because each node must name the others.
fn free_ports() -> Vec<u16> {
    // All sockets stay open until all ports are known, so that no port is returned twice.
    let held: Vec<_> = (0..COUNT).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}
