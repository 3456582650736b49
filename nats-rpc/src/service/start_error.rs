use super::setup::BoxError;
use crate::connection::{ConnectError, NatsConfigError, RoundTripError};

/// The reason that a service does not start, or cannot continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Handlers conflict or lack dependencies, or [checks](crate::Service::check) failed: one line each, with the
    /// source location for handlers.
    #[error("the service refuses to start:\n  - {}", .0.join("\n  - "))]
    Invalid(Vec<String>),
    /// The settings of the connection cannot be used.
    #[error(transparent)]
    Config(#[from] NatsConfigError),
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A dependency of the service could not be created.
    #[error("{what} cannot be made: {source}")]
    #[non_exhaustive]
    Setup {
        /// The type of the dependency.
        what: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// A service-specific command, or `provision`, failed.
    #[error("{name}: {source}")]
    #[non_exhaustive]
    Command {
        /// The command.
        name: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// The server forbids the service's user these subscriptions.
    #[error("nats-server forbids this user to subscribe to: {}", .0.join(", "))]
    Forbidden(Vec<String>),
    /// The server forbids the service's user its own inbox, without which the service cannot confirm its
    /// subscriptions.
    #[error(
        "nats-server forbids this user its own inbox: it must be allowed to publish and to subscribe to {prefix}.>; \
         NATS_INBOX_PREFIX chooses another"
    )]
    #[non_exhaustive]
    Inbox {
        /// The prefix of its inboxes.
        prefix: String,
    },
    /// The server did not confirm the subscriptions in time.
    #[error("the subscriptions were not confirmed: {0}")]
    SubscriptionTimeout(#[source] RoundTripError),
    /// A thread for a shard cannot be started.
    #[error("a thread for a shard cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The connection ended for good while the service ran.
    #[error("the connection to nats-server ended for good; start the service again")]
    Ended,
}
