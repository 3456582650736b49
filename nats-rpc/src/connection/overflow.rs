use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the log tells of it at most: a flood of messages must not become a flood of lines.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Messages that were dropped because their subscription was full.
#[derive(Default)]
pub(super) struct Overflow {
    dropped: AtomicU64,
    reported: Mutex<Option<Instant>>,
}

impl Overflow {
    /// Counts one more, for the subscription that async-nats knows as `sid`, at `now`.
    pub(super) fn note(&self, sid: u64, now: Instant) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.is_due(now) {
            tracing::error!(sid, dropped, "a subscription is full: its newest messages are dropped");
        }
    }

    /// How many so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let due = reported.is_none_or(|last| now.duration_since(last) >= REPORT_EVERY);
        if due {
            *reported = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_counted_and_one_line_a_second_is_written() {
        let overflow = Overflow::default();
        let start = Instant::now();
        for _ in 0..1_000 {
            overflow.note(1, start);
        }
        assert_eq!(overflow.dropped(), 1_000);
        assert!(!overflow.is_due(start + REPORT_EVERY / 2));
        assert!(overflow.is_due(start + REPORT_EVERY));
        assert!(!overflow.is_due(start + REPORT_EVERY));
    }
}
