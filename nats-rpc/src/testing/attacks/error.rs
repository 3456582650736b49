use std::io;

use super::super::NatsServerError;
use crate::StartError;

/// An error that prevents an [`AttackSuite`](super::AttackSuite) from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttackError {
    /// nats-server did not start.
    #[error("cannot start nats-server for the attacks")]
    NatsServer(#[from] NatsServerError),
    /// The service did not start.
    #[error("the attacked service does not start")]
    Start(#[from] StartError),
    /// The valid request has no successful reply, so an attack would prove nothing.
    #[error("the valid request to `{subject}` has no successful reply before any attack: {reply}")]
    #[non_exhaustive]
    Control {
        /// The subject of the request.
        subject: String,
        /// The reply, or a note that there was none.
        reply: String,
    },
    /// The connection to nats-server failed.
    #[error("the connection of the attacker failed; does nats-server accept clients without credentials?")]
    Io(#[from] io::Error),
    /// The payload of the valid request cannot be encoded as JSON.
    #[error("cannot encode the payload of the valid request")]
    Payload(#[from] serde_json::Error),
}
