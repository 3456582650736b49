//! The assertions used in the last seconds.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::refusal::JwtRejection;

/// A bounded set of assertion ids that expire.
///
/// Two generations of one `window` each. An id is kept for at least one window, which is as long as an assertion can
/// be valid, and for less than two while others arrive. The steady clock measures the windows, so a step of the wall
/// clock neither drops ids early nor keeps them.
pub(crate) struct ReplaySet {
    seen: Mutex<Seen>,
    window: Duration,
    capacity: usize,
}

struct Seen {
    since: Option<Instant>,
    current: HashSet<Box<str>, RandomState>,
    previous: HashSet<Box<str>, RandomState>,
}

impl ReplaySet {
    pub(crate) fn new(window: Duration, capacity: usize) -> Self {
        let seen = Seen { since: None, current: HashSet::default(), previous: HashSet::default() };
        Self { seen: Mutex::new(seen), window, capacity }
    }

    /// Records `id` at `now`.
    ///
    /// Rejects an id that was recorded before, and every id while the set is full: an id dropped early could be
    /// replayed.
    pub(crate) fn first_use(&self, id: &str, now: Instant) -> Result<(), JwtRejection> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(*seen.since.get_or_insert(now));
        if elapsed >= self.window {
            let current = std::mem::take(&mut seen.current);
            seen.previous = if elapsed < 2 * self.window { current } else { HashSet::default() };
            seen.since = Some(now);
        }
        if seen.current.contains(id) || seen.previous.contains(id) {
            return Err(JwtRejection::Replayed);
        }
        if seen.current.len() + seen.previous.len() >= self.capacity {
            return Err(JwtRejection::ReplaySetFull);
        }
        seen.current.insert(id.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_id_is_refused_for_at_least_one_window_and_forgotten_after_two() {
        let start = Instant::now();
        let at = |second: u32| start + second * SECOND;
        for first in 100..120 {
            let set = ReplaySet::new(20 * SECOND, 10);
            set.first_use("start", at(100)).unwrap();
            set.first_use("a", at(first)).unwrap();
            for later in [first, first + 1, first + 19] {
                assert_eq!(set.first_use("a", at(later)), Err(JwtRejection::Replayed), "{first} {later}");
            }
            assert_eq!(set.first_use("a", at(first + 40)), Ok(()), "{first}");
        }
    }

    #[test]
    fn a_full_set_refuses_until_time_empties_it() {
        let start = Instant::now();
        let at = |second: u32| start + second * SECOND;
        let set = ReplaySet::new(20 * SECOND, 2);
        set.first_use("a", at(100)).unwrap();
        set.first_use("b", at(100)).unwrap();
        assert_eq!(set.first_use("c", at(110)), Err(JwtRejection::ReplaySetFull));
        assert_eq!(set.first_use("c", at(121)), Err(JwtRejection::ReplaySetFull));
        assert_eq!(set.first_use("c", at(141)), Ok(()));
    }
}
