//! The time of day, replaceable by tests.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where "now" comes from.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    pub(crate) fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    fn since_epoch(&self) -> Duration {
        // A clock before 1970 reads as 1970: every token is then from the future and refused.
        (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Seconds since 1970, as tokens count them.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// Milliseconds since 1970.
    #[cfg_attr(not(feature = "auth"), allow(dead_code, reason = "only sessions count in milliseconds"))]
    pub(crate) fn unix_millis(&self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(SystemTime::now))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_counted_in_seconds_and_in_milliseconds_since_1970() {
        let clock = Clock::new(|| UNIX_EPOCH + Duration::from_millis(1_800_000_000_999));
        assert_eq!((clock.unix_seconds(), clock.unix_millis()), (1_800_000_000, 1_800_000_000_999));
        let before = Clock::new(|| UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!((before.unix_seconds(), before.unix_millis()), (0, 0));
    }
}
