//! The record of one key: failures, the wait after them, and the attempts that are being checked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::ThrottlePolicy;

/// The longest check of an attempt, in milliseconds. An attempt of a killed instance counts as failed after it.
const LEASE: u64 = 30_000;
/// The maximum number of attempts checked concurrently, whatever the policy: a record has a bounded size.
const MOST_LEASES: usize = 10;

/// Times in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub(super) failures: u32,
    pub(super) until: u64,
    /// The attempts that are being checked, by any instance.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leases: Vec<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    id: u32,
    ends: u64,
}

/// The reason why an attempt is not checked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Too many attempts failed; the next one may come after this time.
    TooSoon(Duration),
    /// The attempts that are being checked could use up all remaining failures.
    Busy,
}

impl Count {
    /// Checks that the next attempt may come now; the error is the time until it may.
    pub(super) fn wait(&self, policy: &ThrottlePolicy, now: u64) -> Result<(), Duration> {
        // A clock that was ahead must not extend a wait beyond the policy.
        let left = Duration::from_millis(self.until.saturating_sub(now)).min(policy.longest);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// Returns the count with one more failure.
    pub(super) fn failed(mut self, policy: &ThrottlePolicy, now: u64) -> Self {
        self.failures = self.failures.saturating_add(1);
        let wait = policy.wait(self.failures).as_millis();
        self.until = now.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX));
        self
    }

    /// Returns the count with the attempt `id` in progress.
    ///
    /// Not more are checked concurrently than may fail without a wait, so that concurrent attempts gain nothing.
    pub(super) fn begin(self, id: u32, policy: &ThrottlePolicy, now: u64) -> Result<Self, Denied> {
        let mut count = self.expire(policy, now);
        count.wait(policy, now).map_err(Denied::TooSoon)?;
        let left = policy.from.saturating_sub(count.failures).max(1) as usize;
        if count.leases.len() >= left.min(MOST_LEASES) {
            return Err(Denied::Busy);
        }
        count.leases.push(Lease { id, ends: now.saturating_add(LEASE) });
        Ok(count)
    }

    /// Returns the count after the attempt `id` was checked: a success clears all failures.
    pub(super) fn end(mut self, id: u32, failed: bool, policy: &ThrottlePolicy, now: u64) -> Self {
        self.leases.retain(|lease| lease.id != id);
        match failed {
            true => self.failed(policy, now),
            false => Self { failures: 0, until: 0, ..self },
        }
    }

    /// Returns the count after the attempt `id` was given up before its password was checked.
    pub(super) fn give_up(mut self, id: u32) -> Self {
        self.leases.retain(|lease| lease.id != id);
        self
    }

    /// Counts attempts as failed if their instance did not end them in time.
    fn expire(mut self, policy: &ThrottlePolicy, now: u64) -> Self {
        let before = self.leases.len();
        self.leases.retain(|lease| lease.ends > now);
        (self.leases.len()..before).fold(self, |count, _| count.failed(policy, now))
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: ThrottlePolicy = ThrottlePolicy::ACCOUNT;
    const NOW: u64 = 1_000_000;

    fn failed(times: u32) -> Count {
        (0..times).fold(Count::default(), |count, _| count.failed(&POLICY, NOW))
    }

    #[test]
    fn an_early_attempt_is_denied_and_prolongs_nothing() {
        let count = failed(5);
        for now in [NOW, NOW + 999] {
            let left = Duration::from_millis(NOW + 1_000 - now);
            assert_eq!(count.clone().begin(1, &POLICY, now), Err(Denied::TooSoon(left)));
        }
        let next = count.begin(1, &POLICY, NOW + 1_000).unwrap().end(1, true, &POLICY, NOW + 1_000);
        assert_eq!(next.wait(&POLICY, NOW + 1_000), Err(Duration::from_secs(2)));
    }

    #[test]
    fn no_more_are_checked_at_once_than_may_fail() {
        for (failures, at_once) in [(0, 5), (3, 2), (4, 1)] {
            let mut count = failed(failures);
            for id in 0..at_once {
                count = count.begin(id, &POLICY, NOW).unwrap();
            }
            assert_eq!(count.begin(99, &POLICY, NOW), Err(Denied::Busy), "{failures}");
        }
        let later = failed(7);
        let later = later.begin(1, &POLICY, NOW + 4_000).unwrap();
        assert_eq!(later.begin(2, &POLICY, NOW + 4_000), Err(Denied::Busy));
    }

    #[test]
    fn a_success_forgets_failures_and_keeps_other_attempts() {
        let count = failed(3).begin(1, &POLICY, NOW).unwrap().begin(2, &POLICY, NOW).unwrap();
        let count = count.end(1, false, &POLICY, NOW);
        assert_eq!((count.failures, count.leases.len()), (0, 1));
        assert!(count.end(2, false, &POLICY, NOW).is_empty());
    }

    #[test]
    fn an_attempt_that_is_given_up_is_no_failure() {
        let count = failed(2).begin(1, &POLICY, NOW).unwrap();
        assert_eq!(count.give_up(1), failed(2));
    }

    #[test]
    fn an_attempt_of_a_killed_instance_counts_as_failed() {
        let mut count = failed(0);
        for id in 0..5 {
            count = count.begin(id, &POLICY, NOW).unwrap();
        }
        assert_eq!(count.clone().begin(9, &POLICY, NOW + LEASE - 1), Err(Denied::Busy));
        assert_eq!(count.begin(9, &POLICY, NOW + LEASE), Err(Denied::TooSoon(POLICY.first)));
    }

    #[test]
    fn a_clock_that_was_ahead_holds_up_no_longer_than_the_policy() {
        let count = Count { failures: 5, until: u64::MAX, ..Count::default() };
        assert_eq!(count.wait(&POLICY, 0), Err(POLICY.longest));
    }

    #[test]
    fn the_largest_record_fits_its_bucket() {
        let leases = vec![Lease { id: u32::MAX, ends: u64::MAX }; MOST_LEASES];
        let count = Count { failures: u32::MAX, until: u64::MAX, leases };
        assert!(serde_json::to_vec(&count).unwrap().len() < 1_024);
        let old: Count = serde_json::from_str(r#"{"failures":5,"until":7}"#).unwrap();
        assert_eq!((old.failures, old.until), (5, 7));
    }
}
