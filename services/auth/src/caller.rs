//! The caller of a handler that checks a password: its source, its device, and how long it waits.

use std::time::{Duration, Instant};

use nats_rpc::Context;
use nats_rpc::jwt::Peer;

/// The header that carries a device token.
pub(crate) const DEVICE_HEADER: &str = "nrpc-device";
/// How long before the caller stops waiting the reply leaves at the latest.
const REPLY_MARGIN: Duration = Duration::from_millis(100);

/// What is known of a caller before any password is checked.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The source, if a gateway proved it.
    pub(crate) source: Option<String>,
    /// The device token that the caller sent; it proves nothing yet.
    pub(crate) device: Option<String>,
    deadline: Instant,
}

impl Caller {
    pub(crate) fn new(Peer(source): Peer, context: &Context) -> Self {
        let device = context.headers().get(DEVICE_HEADER).map(str::to_owned);
        Self { source, device, deadline: context.deadline() }
    }

    /// When a reply has to be ready.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline.checked_sub(REPLY_MARGIN).unwrap_or(self.deadline)
    }
}
