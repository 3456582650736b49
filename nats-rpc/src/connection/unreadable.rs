use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::log_limit::LogLimit;
use crate::metrics;

/// A counter of messages with unreadable headers that a filter replaced.
#[derive(Default)]
pub(super) struct Unreadable {
    replaced: AtomicU64,
    log: LogLimit,
}

impl Unreadable {
    /// Counts one more message, at `now`.
    pub(super) fn note(&self, now: Instant) {
        metrics::message_unreadable();
        let messages = self.replaced.fetch_add(1, Ordering::Relaxed) + 1;
        if self.log.note(now).is_some() {
            tracing::warn!(messages, "replaced a message whose headers cannot be read");
        }
    }

    /// Returns the number of messages so far.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }
}
