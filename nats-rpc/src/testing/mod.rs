//! For tests: handlers without a server, and a real nats-server.

mod test_service;

pub use self::test_service::TestService;
