//! The caller of a handler that checks a password: source, device and deadline.

use std::time::{Duration, Instant};

use nats_rpc::Context;
use nats_rpc_jwt::ClientIp;

/// The header that carries a device token.
pub(crate) const DEVICE_HEADER: &str = "nrpc-device";
/// Part of the time that is reserved for the reply: a tenth, at most this.
const REPLY_MARGIN: Duration = Duration::from_millis(500);

/// A caller, before any password is checked.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The source, if a gateway proved it.
    pub(crate) source: Option<String>,
    /// The device token that the caller sent, not yet verified.
    pub(crate) device: Option<String>,
    deadline: Instant,
}

impl Caller {
    pub(crate) fn new(ClientIp(source): ClientIp, context: &Context) -> Self {
        let device = context.headers().get(DEVICE_HEADER).map(str::to_owned);
        let margin = (context.remaining() / 10).min(REPLY_MARGIN);
        let deadline = context.deadline().checked_sub(margin).unwrap_or_else(|| context.deadline());
        Self { source, device, deadline }
    }

    /// Returns the deadline of the reply, a little before the caller's timeout.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}
