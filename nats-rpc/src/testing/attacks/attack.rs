//! One attack: the bytes to send, and a condition that must hold afterwards.

use super::target::Target;
use super::wire::Message;

pub(super) struct Attack {
    pub(super) name: String,
    /// The bytes to send, in the NATS client protocol.
    pub(super) bytes: Vec<u8>,
    pub(super) expected: Expected,
}

/// A condition on the replies. In every case, the service must reply to a valid request afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A successful reply arrives here: this is the control of an attack.
    Success(String),
    /// An error of class 4xx arrives here.
    Rejection(String),
    /// No reply, or any reply except a 500, which means a fault of the service; no error repeats a secret.
    Survival(String),
    /// The service publishes nothing here.
    Silence(String),
}

impl Attack {
    pub(super) fn new(name: impl Into<String>, bytes: Vec<u8>, expected: Expected) -> Self {
        Self { name: name.into(), bytes, expected }
    }

    /// Creates a request that the service must reject.
    pub(super) fn rejected(name: impl Into<String>, target: &Target, request: Message) -> Self {
        Self::replying(name, target, request, Expected::Rejection)
    }

    /// Creates a request that the service must survive.
    pub(super) fn survived(name: impl Into<String>, target: &Target, request: Message) -> Self {
        Self::replying(name, target, request, Expected::Survival)
    }

    fn replying(
        name: impl Into<String>,
        target: &Target,
        mut request: Message,
        expected: fn(String) -> Expected,
    ) -> Self {
        let inbox = target.inbox();
        request.reply = inbox.clone().into_bytes();
        Self::new(name, request.publish(), expected(inbox))
    }
}

impl Expected {
    /// Returns `true` if the service must reply.
    pub(super) fn is_a_reply(&self) -> bool {
        matches!(self, Self::Success(_) | Self::Rejection(_))
    }

    /// Returns the subject of the expectation.
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Success(subject) | Self::Rejection(subject) | Self::Survival(subject) | Self::Silence(subject) => {
                subject
            }
        }
    }
}
