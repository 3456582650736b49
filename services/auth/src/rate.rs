//! A rate limit.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A token bucket: allows a minute's worth at once, then refills at the rate of the minute.
///
/// All calls share the limit: a caller that floods it shuts out the others. Do not use it for callers that can be
/// distinguished.
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

    /// Counts an event now, or returns the time until the next one is allowed.
    pub(crate) fn admit(&self, now: Instant) -> Result<(), Duration> {
        // A panic cannot leave two numbers half-changed, so a poisoned lock is no reason to fail.
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(level.at).as_secs_f64() * self.per_second;
        level.left = (level.left + gained).min(self.most);
        level.at = level.at.max(now);
        if level.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - level.left) / self.per_second));
        }
        level.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_passes_at_once_and_the_rest_as_time_does() {
        let limit = RateLimit::per_minute(60);
        let start = Instant::now() + Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| limit.admit(start).is_ok()).count(), 60);
        assert!(limit.admit(start + Duration::from_millis(900)).is_err());
        assert!(limit.admit(start + Duration::from_millis(1_100)).is_ok());
        let much_later = start + Duration::from_secs(3_600);
        assert_eq!((0..100).filter(|_| limit.admit(much_later).is_ok()).count(), 60);
    }
    #[test]
    fn who_comes_too_early_is_told_when_the_next_place_is_free() {
        for (times, wait) in [(1, 60), (2, 30), (60, 1)] {
            let limit = RateLimit::per_minute(times);
            let start = Instant::now() + Duration::from_secs(1);
            while limit.admit(start).is_ok() {}
            let wait = Duration::from_secs(wait);
            assert_eq!(limit.admit(start).unwrap_err().as_secs_f64().round(), wait.as_secs_f64(), "{times}");
            let told = limit.admit(start + wait / 2).unwrap_err();
            assert!(told.abs_diff(wait / 2) < Duration::from_millis(1), "{times}: {told:?}");
            assert!(limit.admit(start + wait + Duration::from_millis(1)).is_ok(), "{times}");
        }
    }
}
