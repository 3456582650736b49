//! Which assertions were used in the last seconds.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use foldhash::quality::RandomState;

use super::refusal::Refusal;

/// A bounded set of assertion ids that forgets by time.
///
/// Two generations of `window` seconds each: an id is remembered for at least one window, which is as
/// long as an assertion can be valid, and for less than two.
pub(crate) struct ReplaySet {
    seen: Mutex<Seen>,
    window: u64,
    capacity: usize,
}

struct Seen {
    since: u64,
    current: HashSet<Box<str>, RandomState>,
    previous: HashSet<Box<str>, RandomState>,
}

impl ReplaySet {
    pub(crate) fn new(window: u64, capacity: usize) -> Self {
        let seen = Seen { since: 0, current: HashSet::default(), previous: HashSet::default() };
        Self { seen: Mutex::new(seen), window, capacity }
    }

    /// Takes note of `id` at `now` (seconds since 1970).
    ///
    /// Refuses an id that was seen before, and every id while the set is full: forgetting one early
    /// would let it be replayed.
    pub(crate) fn first_use(&self, id: &str, now: u64) -> Result<(), Refusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_sub(seen.since);
        if elapsed >= self.window {
            let current = std::mem::take(&mut seen.current);
            seen.previous = if elapsed < 2 * self.window { current } else { HashSet::default() };
            seen.since = now;
        }
        if seen.current.contains(id) || seen.previous.contains(id) {
            return Err(Refusal::Replayed);
        }
        if seen.current.len() + seen.previous.len() >= self.capacity {
            return Err(Refusal::ReplaySetFull);
        }
        seen.current.insert(id.into());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_for_at_least_one_window_and_forgotten_after_two() {
        for first in 100..120 {
            let set = ReplaySet::new(20, 10);
            set.first_use("start", 100).unwrap();
            set.first_use("a", first).unwrap();
            for later in [first, first + 1, first + 19] {
                assert_eq!(set.first_use("a", later), Err(Refusal::Replayed), "{first} {later}");
            }
            assert_eq!(set.first_use("a", first + 40), Ok(()), "{first}");
        }
    }

    #[test]
    fn a_full_set_refuses_until_time_empties_it() {
        let set = ReplaySet::new(20, 2);
        set.first_use("a", 100).unwrap();
        set.first_use("b", 100).unwrap();
        assert_eq!(set.first_use("c", 110), Err(Refusal::ReplaySetFull));
        assert_eq!(set.first_use("c", 121), Err(Refusal::ReplaySetFull));
        assert_eq!(set.first_use("c", 141), Ok(()));
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let set = ReplaySet::new(20, 10);
        set.first_use("a", 1_000).unwrap();
        assert_eq!(set.first_use("a", 500), Err(Refusal::Replayed));
    }
}
