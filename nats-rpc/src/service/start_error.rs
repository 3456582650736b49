use super::setup::BoxError;
use crate::connection::{ConnectError, NatsConfigError, RoundTripError};

/// Why a service does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The handlers contradict each other or miss something, one line each, with its place in the source; or
    /// [checks](crate::Service::check) failed.
    #[error("the service refuses to start:\n  - {}", .0.join("\n  - "))]
    Invalid(Vec<String>),
    /// The settings of the connection cannot be used.
    #[error(transparent)]
    Config(#[from] NatsConfigError),
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Something that the service should have been given could not be made.
    #[error("{what} cannot be made: {source}")]
    #[non_exhaustive]
    Setup {
        /// Its type.
        what: &'static str,
        /// Why.
        source: BoxError,
    },
    /// A command of the service's own, or `provision`, failed.
    #[error("{name}: {source}")]
    #[non_exhaustive]
    Command {
        /// The command.
        name: &'static str,
        /// Why.
        source: BoxError,
    },
    /// The server forbids these subscriptions to the service's user.
    #[error("nats-server forbids this user to subscribe to: {}", .0.join(", "))]
    Forbidden(Vec<String>),
    /// The server forbids the service's user its own inbox, without which nothing can be confirmed.
    #[error(
        "nats-server forbids this user its own inbox: it must be allowed to publish and to subscribe to {prefix}.>; \
         NATS_INBOX_PREFIX chooses another"
    )]
    #[non_exhaustive]
    Inbox {
        /// What its inboxes begin with.
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
