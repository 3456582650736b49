use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one kind of line is written at most: a flood of messages must not become a flood of lines.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// A limit for one kind of log line: one a second.
#[derive(Default)]
pub(crate) struct LogLimit(Mutex<Option<Instant>>);

impl LogLimit {
    /// Returns `true` if a line may be written at `now`, which then counts as written.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn one_line_a_second_is_due() {
        let limit = LogLimit::default();
        let start = Instant::now();
        assert!(limit.is_due(start));
        assert!(!limit.is_due(start) && !limit.is_due(start + REPORT_EVERY / 2));
        assert!(limit.is_due(start + REPORT_EVERY));
        assert!(!limit.is_due(start + REPORT_EVERY));
    }
}
