//! For tests: handlers without a server, a real nats-server, and attacks on a service.

#[cfg(unix)]
mod attacks;
#[cfg(unix)]
mod nats_server;
mod test_service;

#[cfg(unix)]
pub use self::attacks::{AttackError, AttackReport, AttackResult, AttackSuite};
#[cfg(unix)]
pub use self::nats_server::{NatsServer, NatsServerBuilder, NatsServerError};
pub use self::test_service::{TestService, TestStream};
