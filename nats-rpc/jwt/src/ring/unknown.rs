//! Limits the cost of tokens with unknown key ids.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// The maximum wait for a key; all waiting requests share one wait.
pub(crate) const WAIT: Duration = Duration::from_millis(250);
/// The minimum interval between such waits, and between reads of the ring out of turn.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// The maximum number of waiting requests; each occupies a place in its handler's queue.
const WAITERS: usize = 64;

/// Decides which requests wait for an unknown key, until when, and which one triggers the read.
///
/// A key may be newer than the known document. So the first token with an unknown key id opens a window of 250 ms, in
/// which it and others wait for a newer document. Then no request waits until 10 s have passed: a flood of made-up key
/// ids costs one read in that time, and one comparison each.
pub(crate) struct Unknown {
    opened: Mutex<Option<Instant>>,
    places: Semaphore,
}

/// A place in a window.
pub(crate) struct Waiting<'a> {
    pub(crate) until: Instant,
    /// `true` if this request opened the window, and should trigger the read.
    pub(crate) first: bool,
    _place: SemaphorePermit<'a>,
}

impl Default for Unknown {
    fn default() -> Self {
        Self { opened: Mutex::new(None), places: Semaphore::new(WAITERS) }
    }
}

impl Unknown {
    pub(crate) fn admit(&self, now: Instant) -> Option<Waiting<'_>> {
        let (until, first) = self.window(now)?;
        let place = self.places.try_acquire().ok()?;
        Some(Waiting { until, first, _place: place })
    }

    fn window(&self, now: Instant) -> Option<(Instant, bool)> {
        // A single time stamp cannot be left half-changed, so poison is harmless.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        match *opened {
            Some(at) if now < at + WAIT => Some((at + WAIT, false)),
            Some(at) if now < at + EVERY => None,
            _ => {
                *opened = Some(now);
                Some((now + WAIT, true))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_window_of_250_ms_each_10_s_and_one_who_asks() {
        let unknown = Unknown::default();
        let start = Instant::now();
        let first = unknown.admit(start).expect("a place");
        assert!(first.first && first.until == start + WAIT);
        let second = unknown.admit(start + Duration::from_millis(249)).expect("a place");
        assert!(!second.first && second.until == start + WAIT);
        for millis in [250, 251, 5_000, 9_999] {
            assert!(unknown.admit(start + Duration::from_millis(millis)).is_none(), "{millis}");
        }
        assert!(unknown.admit(start + EVERY).is_some_and(|waiting| waiting.first));
    }

    #[test]
    fn no_more_than_64_wait() {
        let unknown = Unknown::default();
        let now = Instant::now();
        let mut waiting: Vec<_> = (0..WAITERS).map(|_| unknown.admit(now).expect("a place")).collect();
        assert!(unknown.admit(now).is_none());
        waiting.pop();
        assert!(unknown.admit(now).is_some());
    }
}
