//! A bound on how often something happens.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A token bucket: a minute's worth at once, then as many as the minute gives.
///
/// It counts all together whose calls it is asked about: who floods it shuts out the others, so it is no
/// bound for callers that can be told apart.
#[derive(Debug)]
pub(crate) struct RateLimit {
    per_second: f64,
    most: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    left: f64,
    at: Instant,
}

impl RateLimit {
    pub(crate) fn per_minute(times: u32) -> Self {
        let most = f64::from(times);
        Self { per_second: most / 60.0, most, level: Mutex::new(Level { left: most, at: Instant::now() }) }
    }

    /// Whether it may happen now; if so, it counts.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        // Two numbers cannot be left half-changed, so poison is no reason to stop.
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(level.at).as_secs_f64() * self.per_second;
        level.left = (level.left + gained).min(self.most);
        level.at = level.at.max(now);
        if level.left < 1.0 {
            return false;
        }
        level.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_minutes_worth_passes_at_once_and_the_rest_as_time_does() {
        let limit = RateLimit::per_minute(60);
        let start = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| limit.admits(start)).count(), 60);
        assert!(!limit.admits(start + Duration::from_millis(900)));
        assert!(limit.admits(start + Duration::from_millis(1_100)));
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..100).filter(|_| limit.admits(much_later)).count(), 60);
    }
}
