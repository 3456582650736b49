//! Tracks bucket outages so that the grace period can be extended by their duration.

use std::sync::{Mutex, PoisonError};

/// A slower reply indicates an outage, in milliseconds; a healthy bucket replies within milliseconds.
const SLOW: u64 = 1_000;
/// The maximum interval between two failures of one outage.
const APART: u64 = 5_000;
/// The maximum extension of the grace period.
const LONGEST: u64 = 60_000;

/// The last outage of the bucket, in milliseconds since 1970.
///
/// If a rotation's reply was lost because a node died, the client retries once the bucket is back. An election may
/// take nearly all of the grace period, and such a retry must not be treated as token reuse.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Option<Outage>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outage {
    start: u64,
    end: u64,
}

impl Outages {
    /// Records a request that was answered, or failed, between these times.
    pub(super) fn note(&self, start: u64, end: u64, answered: bool) {
        if answered && end.saturating_sub(start) < SLOW {
            return;
        }
        // Two numbers cannot be left half-changed, so poison is harmless.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(match *last {
            Some(known) if start <= known.end.saturating_add(APART) => {
                Outage { start: known.start.min(start), end: known.end.max(end) }
            }
            _ => Outage { start, end },
        });
    }

    /// Returns the grace period of a rotation at `rotated_at`, extended by the outages within it.
    pub(super) fn prolong(&self, grace: u64, rotated_at: u64) -> u64 {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Outage { start, end }) = last else { return grace };
        if grace == 0 || start > rotated_at.saturating_add(grace) {
            return grace;
        }
        grace.saturating_add(end.saturating_sub(start.max(rotated_at)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: u64 = 10_000;

    #[test]
    fn quick_answers_prolong_nothing() {
        let outages = Outages::default();
        outages.note(1_000, 1_999, true);
        assert_eq!(outages.prolong(GRACE, 1_000), GRACE);
        outages.note(1_000, 2_000, true);
        assert_eq!(outages.prolong(GRACE, 1_000), GRACE + 1_000, "this one took a second");
    }

    #[test]
    fn an_outage_after_a_rotation_is_added_to_its_grace_period() {
        let outages = Outages::default();
        outages.note(100_000, 102_000, false);
        outages.note(102_020, 109_000, true);
        // Rotated before the outage, in it, after it.
        for (rotated_at, expected) in [
            (90_000, GRACE + 9_000),
            (95_000, GRACE + 9_000),
            (100_000, GRACE + 9_000),
            (104_000, GRACE + 5_000),
            (109_000, GRACE),
            (120_000, GRACE),
        ] {
            assert_eq!(outages.prolong(GRACE, rotated_at), expected, "{rotated_at}");
        }
        // The grace period was over when the outage began.
        assert_eq!(outages.prolong(GRACE, 89_999), GRACE);
        // A grace period of zero is not extended.
        assert_eq!(outages.prolong(0, 100_000), 0);
    }

    #[test]
    fn an_outage_that_does_not_end_prolongs_for_a_minute_at_most() {
        let outages = Outages::default();
        for second in 0..600 {
            outages.note(second * 1_000, second * 1_000 + 500, false);
        }
        assert_eq!(outages.prolong(GRACE, 0), GRACE + LONGEST);
    }

    #[test]
    fn two_outages_that_are_far_apart_are_two() {
        let outages = Outages::default();
        outages.note(0, 2_000, false);
        outages.note(100_000, 101_000, false);
        assert_eq!(outages.prolong(GRACE, 99_000), GRACE + 1_000);
    }
}
