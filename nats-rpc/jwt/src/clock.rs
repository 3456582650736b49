//! The current time and elapsed time: one clock for both, replaceable by tests.

use std::fmt;
use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The source of the current time.
///
/// The wall clock orders events on different machines, and may step either way. The steady clock never steps: use it
/// for durations.
#[derive(Clone, Default)]
pub struct Clock(Option<Arc<Source>>);

/// The clocks that a test substitutes for those of the system.
struct Source {
    wall: Box<dyn Fn() -> SystemTime + Send + Sync>,
    steady: Box<dyn Fn() -> Instant + Send + Sync>,
}

impl Clock {
    /// Reads the wall clock from `now`, and the steady clock from the system.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self::of(now, Instant::now)
    }

    fn of(
        wall: impl Fn() -> SystemTime + Send + Sync + 'static,
        steady: impl Fn() -> Instant + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(Source { wall: Box::new(wall), steady: Box::new(steady) })))
    }

    /// Returns the instant of the steady clock.
    pub fn steady(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |source| (source.steady)())
    }

    fn wall(&self) -> SystemTime {
        self.0.as_ref().map_or_else(SystemTime::now, |source| (source.wall)())
    }

    fn since_epoch(&self) -> Duration {
        // A clock before 1970 reads as 1970: every token is then from the future and is rejected.
        self.wall().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Returns seconds since 1970, the unit of time claims.
    pub fn unix_seconds(&self) -> u64 {
        self.since_epoch().as_secs()
    }

    /// Returns milliseconds since 1970.
    pub fn unix_millis(&self) -> u64 {
        u64::try_from(self.since_epoch().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Both clocks of a test, set by the test.
#[cfg(test)]
#[derive(Clone)]
pub(crate) struct Hand {
    started: Instant,
    passed_ms: Arc<AtomicU64>,
    wall_ms: Arc<AtomicU64>,
}

#[cfg(test)]
impl Hand {
    /// Creates clocks at `seconds` since 1970.
    pub(crate) fn at(seconds: u64) -> Self {
        let wall_ms = Arc::new(AtomicU64::new(seconds * 1_000));
        Self { started: Instant::now(), passed_ms: Arc::default(), wall_ms }
    }

    pub(crate) fn clock(&self) -> Clock {
        let (wall, steady) = (self.clone(), self.clone());
        let millis = |count: &AtomicU64| Duration::from_millis(count.load(Ordering::SeqCst));
        Clock::of(move || UNIX_EPOCH + millis(&wall.wall_ms), move || steady.started + millis(&steady.passed_ms))
    }

    /// Advances both clocks.
    pub(crate) fn pass(&self, time: Duration) {
        for count in [&self.passed_ms, &self.wall_ms] {
            count.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// Sets the wall clock alone.
    pub(crate) fn step_to(&self, seconds: u64) {
        self.wall_ms.store(seconds * 1_000, Ordering::SeqCst);
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
    #[test]
    fn a_step_of_the_wall_clock_moves_the_steady_one_not() {
        let hand = Hand::at(1_000);
        let (clock, system) = (hand.clock(), Clock::default());
        let started = clock.steady();
        hand.pass(Duration::from_secs(2));
        hand.step_to(5);
        assert_eq!((clock.unix_seconds(), clock.steady() - started), (5, Duration::from_secs(2)));
        assert!(system.steady() >= started && system.unix_seconds() > 1_700_000_000);
    }
}
