//! What tests of a service need: a real nats-server.

#[cfg(unix)]
mod nats_server;

#[cfg(unix)]
pub use nats_server::{NatsServer, NatsServerBuilder, NatsServerError};
