use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::log_limit::LogLimit;

/// Messages that were dropped because their subscription was full.
#[derive(Default)]
pub(super) struct Overflow {
    dropped: AtomicU64,
    log: LogLimit,
}

impl Overflow {
    /// Counts one more dropped message, for the subscription with async-nats' id `sid`, at `now`.
    pub(super) fn note(&self, sid: u64, now: Instant) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.log.note(now).is_some() {
            tracing::error!(sid, dropped, "a subscription is full: its newest messages are dropped");
        }
    }

    /// Returns the number of dropped messages so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_counted() {
        let overflow = Overflow::default();
        let start = Instant::now();
        for _ in 0..1_000 {
            overflow.note(1, start);
        }
        assert_eq!(overflow.dropped(), 1_000);
    }
}
