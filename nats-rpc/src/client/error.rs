use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;

use crate::decode::DecodeError;
use crate::error::{Code, RpcError};
use crate::message::HeaderError;

/// The reason that a call returned no value; it also shows whether the call may have executed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The service replied with an error.
    #[error("the service answered with an error: {0}")]
    Remote(RemoteError),
    /// The subject has no responders; nothing was executed.
    #[error("nobody listens to {subject:?}: is the service running, and is the subject spelled right?")]
    #[non_exhaustive]
    NoResponders {
        /// The subject called.
        subject: String,
    },
    /// No reply arrived by the deadline; the call may have executed if it was [sent](Self::TimedOut::sent).
    #[error(
        "{subject:?} timed out after {after:?}: {}",
        match sent {
            true => "no reply came; it may have executed",
            false => "it was not sent, for want of a connection, of time, or of room beside calls that wait for a reply",
        },
    )]
    #[non_exhaustive]
    TimedOut {
        /// The subject called.
        subject: String,
        /// The time that the client waited.
        after: Duration,
        /// Is `true` if the call may have been sent.
        ///
        /// A call is not sent in three cases: its deadline had already passed; a client that [waits for a
        /// connection](crate::Client::wait_for_ready) had none in all that time; too many calls of the client were
        /// waiting for replies.
        sent: bool,
    },
    /// The connection broke while the client waited for the reply; the call may have executed.
    #[error("the connection broke while waiting for {subject:?}; it may have executed")]
    #[non_exhaustive]
    ConnectionLost {
        /// The subject called.
        subject: String,
    },
    /// The reply is incomplete: part of it was lost, or its service has disappeared. The items received before are
    /// valid.
    #[error("the answer of {subject:?} broke off: {why}")]
    #[non_exhaustive]
    IncompleteResponse {
        /// The subject called.
        subject: String,
        /// A description of the missing part.
        why: String,
    },
    /// A JetStream stream captured the request and acknowledged it, and no other reply arrived by the deadline; the
    /// call may have executed.
    #[error(
        "no reply from {subject:?}: the JetStream stream {stream:?} captures the subject and acknowledged the request; \
         take the subject out of the stream, or create the stream with `no_ack`"
    )]
    #[non_exhaustive]
    CapturedByStream {
        /// The subject called.
        subject: String,
        /// The name of the stream.
        stream: String,
    },
    /// There is no connection now; nothing was sent.
    #[error("not connected to nats-server; nothing was sent")]
    Disconnected,
    /// This user may not publish to the subject; nothing was executed.
    #[error("nats-server forbids this user to publish to {subject:?}")]
    #[non_exhaustive]
    Forbidden {
        /// The subject called.
        subject: String,
    },
    /// This user may not subscribe to its own inbox, so no reply can arrive; the call may have executed.
    #[error(
        "nats-server forbids this user its own inbox {inbox:?}: it must be allowed to subscribe there; \
         NATS_INBOX_PREFIX chooses another"
    )]
    #[non_exhaustive]
    InboxForbidden {
        /// The inbox.
        inbox: String,
    },
    /// The call cannot be sent in this form; the text says how to fix it.
    #[error("{0}")]
    Invalid(String),
    /// The data and the headers together exceed the server's limit.
    #[error("the message of {size} bytes is larger than the {max} that nats-server takes")]
    #[non_exhaustive]
    TooLarge {
        /// The size of data and headers in bytes.
        size: usize,
        /// The server's limit in bytes.
        max: usize,
    },
    /// The reply does not have the expected type; the text contains no value from it.
    #[error("the answer is not of the type expected: {0}")]
    Decode(#[source] DecodeError),
}

impl CallError {
    /// Returns the code of the service's error reply; `None` for all other errors.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Remote(error) => error.code(),
            _ => None,
        }
    }
}

impl From<HeaderError> for CallError {
    fn from(error: HeaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// Converts a failed call of a handler into the error that the handler's own caller receives.
///
/// Errors that a caller can act on are passed on: 404 stays 404, an unavailable service is 503, a timeout is 504. An
/// error that concerns only the two services, such as a missing permission, becomes a 500 with its cause in the log.
impl From<CallError> for RpcError {
    fn from(error: CallError) -> Self {
        let code = match &error {
            CallError::Remote(remote) => remote.code().filter(|code| *code != Code::Internal),
            CallError::NoResponders { .. }
            | CallError::Disconnected
            | CallError::ConnectionLost { .. }
            | CallError::IncompleteResponse { .. } => Some(Code::Unavailable),
            CallError::TimedOut { .. } | CallError::CapturedByStream { .. } => Some(Code::DeadlineExceeded),
            CallError::TooLarge { .. } => Some(Code::PayloadTooLarge),
            CallError::Forbidden { .. }
            | CallError::InboxForbidden { .. }
            | CallError::Invalid(_)
            | CallError::Decode(_) => None,
        };
        let Some(code) = code else { return Self::internal(error) };
        let message = match &error {
            CallError::Remote(remote) => remote.message().to_owned(),
            CallError::TimedOut { .. } | CallError::CapturedByStream { .. } => {
                "a service that this one needs did not answer in time".to_owned()
            }
            CallError::TooLarge { .. } => "a message to a service that this one needs is too large".to_owned(),
            _ => "a service that this one needs is not available".to_owned(),
        };
        let details = match &error {
            CallError::Remote(remote) => remote.details().map(ToOwned::to_owned),
            _ => None,
        };
        let answer = Self::new(code, message).with_source(error);
        match details {
            Some(details) => answer.with_details(details),
            None => answer,
        }
    }
}

/// An error reply of a service.
#[derive(Clone)]
pub struct RemoteError {
    pub(super) status: u16,
    pub(super) name: Option<String>,
    pub(super) message: String,
    pub(super) details: Option<Box<RawValue>>,
}

impl RemoteError {
    /// Returns the code of the error; `None` if no [`Code`] has this status.
    pub fn code(&self) -> Option<Code> {
        Code::from_status(self.status)
    }

    /// Returns the number in `Nats-Service-Error-Code`, or in the `status` of a NestJS error; 500 if there is none.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the error's own name as the service spells it in `code`, such as `NOT_FOUND` or `E_NO_SUCH_USER`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the message for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the details for the caller, as JSON.
    pub fn details(&self) -> Option<&RawValue> {
        self.details.as_deref()
    }
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => write!(f, "{}: {}", self.status, self.message),
        }
    }
}

impl fmt::Debug for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteError")
            .field("status", &self.status)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}
