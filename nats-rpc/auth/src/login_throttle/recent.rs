//! A cache of keys that have to wait, as this instance read them a moment ago.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The time until the bucket is read again for a key that has to wait: another instance may clear its failures.
const TRUSTED: Duration = Duration::from_secs(1);
/// The maximum number of cached keys; further ones cost reads.
const MOST: usize = 4_096;

/// A bounded cache of waits, so that a flood of attempts at one key costs one read a second.
#[derive(Debug, Default)]
pub(super) struct RecentWaits(Mutex<HashMap<String, Wait>>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    until: Instant,
    trusted_until: Instant,
}

impl RecentWaits {
    /// Returns the rest of the wait of `key`, if a wait is cached.
    pub(super) fn left(&self, key: &str, now: Instant) -> Option<Duration> {
        let waits = self.lock();
        let wait = waits.get(key).filter(|wait| wait.trusted_until > now)?;
        wait.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    pub(super) fn note(&self, key: &str, left: Duration, now: Instant) {
        let (Some(until), Some(trusted_until)) = (now.checked_add(left), now.checked_add(TRUSTED)) else { return };
        let mut waits = self.lock();
        if waits.len() >= MOST {
            waits.retain(|_, wait| wait.trusted_until > now);
        }
        if waits.len() < MOST {
            waits.insert(key.to_owned(), Wait { until, trusted_until });
        }
    }

    pub(super) fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Wait>> {
        // An entry is written whole or not at all, so poison is harmless.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_known_for_a_second_and_no_longer_than_it_lasts() {
        let (waits, now) = (RecentWaits::default(), Instant::now());
        waits.note("long", Duration::from_secs(900), now);
        waits.note("short", Duration::from_millis(300), now);
        let later = now + Duration::from_millis(400);
        assert_eq!(waits.left("long", later), Some(Duration::from_millis(899_600)));
        assert_eq!((waits.left("short", later), waits.left("other", later)), (None, None));
        assert_eq!(waits.left("long", now + TRUSTED), None);
        waits.forget("long");
        assert_eq!(waits.left("long", later), None);
    }

    #[test]
    fn memory_is_bounded() {
        let (waits, now) = (RecentWaits::default(), Instant::now());
        for n in 0..3 * MOST {
            waits.note(&n.to_string(), Duration::from_secs(9), now);
        }
        assert_eq!(waits.lock().len(), MOST);
        waits.note("later", Duration::from_secs(9), now + TRUSTED);
        assert_eq!(waits.lock().len(), 1);
    }
}
