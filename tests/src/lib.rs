//! Helpers shared by the integration tests, the demo and the examples: a real nats-server, obtained without a manual
//! step.

pub mod certificates;
pub mod chaos;
pub mod nats_server;
pub mod node;
pub mod nodes;
mod progress;
pub mod proxy;
pub mod python;
pub mod secured;
mod target_folder;

use nats_rpc::testing::{NatsServer, NatsServerBuilder};

/// Starts a nats-server with JetStream, downloading it first if none is installed.
///
/// # Panics
///
/// If there is no server and none can be obtained, or if it does not start. The message tells how to fix it.
pub fn server() -> NatsServer {
    server_with(|builder| builder)
}

/// Starts a server as [`server()`] does, with the changes of `configure` to the builder.
///
/// ```no_run
/// let small = nats_rpc_tests::server_with(|builder| builder.config("max_payload: 4KB"));
/// ```
///
/// # Panics
///
/// As [`server()`].
pub fn server_with(configure: impl FnOnce(NatsServerBuilder) -> NatsServerBuilder) -> NatsServer {
    let binary = nats_server::path().unwrap_or_else(|error| panic!("{error}"));
    configure(NatsServer::at(binary)).start().unwrap_or_else(|error| panic!("{error}"))
}
