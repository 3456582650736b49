//! A limit on how often one line may appear in the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows one log line per period, so that a flood of messages does not cause a flood of lines.
#[derive(Debug)]
pub struct LogLimit {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// The number of events since the last line.
    unreported: u64,
}

impl Default for LogLimit {
    /// Allows one line per second.
    fn default() -> Self {
        Self::once_a(Duration::from_secs(1))
    }
}

impl LogLimit {
    /// Creates a limit of one line per `period`.
    pub fn once_a(period: Duration) -> Self {
        Self { period, state: Mutex::default() }
    }

    /// Counts one event. Returns the number of events since the last line if a line may be written now.
    pub fn note(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.unreported += 1;
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < self.period) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unreported))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_counted_in_one_line_a_period() {
        let limit = LogLimit::once_a(Duration::from_secs(60));
        let start = Instant::now();
        assert_eq!(limit.note(start), Some(1));
        for second in 1..60 {
            assert_eq!(limit.note(start + Duration::from_secs(second)), None);
        }
        assert_eq!(limit.note(start + Duration::from_secs(60)), Some(60));
        assert_eq!(limit.note(start + Duration::from_secs(61)), None);
    }
}
