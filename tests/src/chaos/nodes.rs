//! A cluster to take nodes from.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use nats_rpc::testing::NatsServer;

use super::stage::until;

/// How long an election may take; the longest seen is 8.5 s.
pub(super) const ELECTION_LIMIT: Duration = Duration::from_secs(30);
const COUNT: usize = 3;
/// How long a lame duck may live; with a handful of clients it takes some 5 s.
const LAME_DUCK_LIMIT: Duration = Duration::from_secs(40);

/// Three nats-servers that know each other, with JetStream.
pub(super) struct Nodes(Vec<(String, NatsServer)>);

impl Nodes {
    pub(super) async fn start() -> Self {
        let ports = free_ports();
        let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let start = |(index, port): (usize, &u16)| {
            let name = format!("node-{index}");
            let config = format!(
                "server_name: {name}\nlame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n\
                 cluster {{ name: chaos, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"
            );
            (name, crate::server_with(|builder| builder.config(config)))
        };
        Self(ports.iter().enumerate().map(start).collect())
    }

    pub(super) fn urls(&self) -> String {
        self.0.iter().map(|(_, server)| server.url()).collect::<Vec<_>>().join(",")
    }

    pub(super) fn url(&mut self, name: &str) -> String {
        self.named(name).url()
    }

    pub(super) fn kill(&mut self, name: &str) {
        tokio::task::block_in_place(|| self.named(name).kill());
    }

    /// Lets a node leave, and waits until it has.
    pub(super) async fn retire(&mut self, name: &str) {
        let server = self.named(name);
        server.lame_duck().expect("the node runs");
        let gone = until(LAME_DUCK_LIMIT, async || server.log().contains("Server Exiting")).await;
        gone.expect("a lame duck dies");
    }

    pub(super) fn restart(&mut self, name: &str) {
        tokio::task::block_in_place(|| self.named(name).restart()).expect("the node starts again");
    }

    fn named(&mut self, name: &str) -> &mut NatsServer {
        let node = self.0.iter_mut().find(|(known, _)| known == name);
        node.map(|(_, server)| server).expect("the leader is one of the nodes")
    }
}

/// The node that leads a stream.
pub(super) async fn leader(jetstream: &jetstream::Context, stream: &str) -> String {
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

/// Ports for the routes, which nats-server cannot choose by itself as each node has to name the others.
fn free_ports() -> Vec<u16> {
    // All are held until all are known, so that none is given twice.
    let held: Vec<_> = (0..COUNT).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    held.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect()
}
