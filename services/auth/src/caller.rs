//! The caller of a handler that checks a password: its source, its device, and how long it waits.

use std::time::{Duration, Instant};

use nats_rpc::Context;
use nats_rpc_jwt::ClientIp;

/// The header that carries a device token.
pub(crate) const DEVICE_HEADER: &str = "nrpc-device";
/// The part of the time that is kept for the reply: a tenth, and no more than this.
const REPLY_MARGIN: Duration = Duration::from_millis(500);

/// A caller, before any password is checked.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The source, if a gateway proved it.
    pub(crate) source: Option<String>,
    /// The device token that the caller sent; it proves nothing yet.
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

    /// The latest time for a reply, a little before the caller stops waiting.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }
}
