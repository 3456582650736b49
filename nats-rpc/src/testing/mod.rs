//! Test support: handlers without a server, a real nats-server, and attacks on a service.

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

/// Creates a request as a guard or an extractor receives it, without a server: for tests of guards and extractors.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_secs(5);
/// let request = nats_rpc::testing::request("users.get", None, Some(r#"{"id":7}"#.into()), deadline);
/// assert_eq!(request.subject(), "users.get");
/// ```
pub fn request(
    subject: &str,
    headers: Option<async_nats::HeaderMap>,
    data: Option<bytes::Bytes>,
    deadline: std::time::Instant,
) -> crate::Request {
    crate::Request::new(subject.into(), headers, data, deadline)
}
