//! What tokens of unknown keys may cost.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// How long a key may be waited for; all who wait share one such time.
pub(crate) const WAIT: Duration = Duration::from_millis(250);
/// How often one such time may begin, and the ring be asked for out of turn.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// How many requests may wait at once; what waits occupies a place in its handler's queue.
const WAITERS: usize = 64;

/// Decides who waits for an unknown key, until when, and who asks for it.
///
/// A key may be newer than the document that this process has, so the first token that names an unknown
/// one opens a window of 250 ms, in which it and others wait for a newer document. After that nobody waits
/// until 10 s have passed: a flood of made-up key ids costs one look-up in that time, and a glance each.
pub(crate) struct Unknown {
    opened: Mutex<Option<Instant>>,
    places: Semaphore,
}

/// A place in a window.
pub(crate) struct Waiting<'a> {
    pub(crate) until: Instant,
    /// Whether this one opened the window, and should ask.
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
        // One time stamp cannot be left half-changed, so poison is no reason to stop.
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
