//! For tests: handlers without a server, and a real nats-server.

#[cfg(unix)]
mod nats_server;
mod test_service;

#[cfg(unix)]
pub use self::nats_server::{NatsServer, NatsServerBuilder, NatsServerError};
pub use self::test_service::{TestService, TestStream};
