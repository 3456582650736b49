//! Limits the reads of a process.

use std::time::Duration;

use tokio::time::Instant;

/// The minimum interval between two reads for the same reason.
const EVERY: Duration = Duration::from_secs(2);
/// The maximum interval, reached while reads bring nothing new.
const LONGEST: Duration = Duration::from_secs(30);

/// Returns a random duration up to `most`, so that thousands of processes do not read at the same instant.
pub(crate) fn spread(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// Allows a read at most every two seconds, and fewer while reads bring nothing new.
///
/// Forged messages could start reads. Such reads bring nothing new, so they become rare.
#[derive(Debug, Default)]
pub(crate) struct ReadLimit {
    last: Option<Instant>,
    in_vain: u32,
}

impl ReadLimit {
    /// Returns the first instant from `now` on at which a read may begin: soon, but not for all processes at once.
    pub(crate) fn next(&self, now: Instant, share: f64) -> Instant {
        let soon = now + Duration::from_millis(100).mul_f64(1.0 + share);
        let every = crate::doubled::doubled(EVERY, self.in_vain, LONGEST);
        self.last.map_or(soon, |last| soon.max(last + every.mul_f64(1.0 + share / 2.0)))
    }

    /// Records a read that began at `now`, and whether it brought anything new.
    pub(crate) fn note(&mut self, now: Instant, brought: bool) {
        self.last = Some(now);
        self.in_vain = if brought { 0 } else { self.in_vain.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_2_s_apart_and_rarer_while_in_vain() {
        let mut limit = ReadLimit::default();
        let now = Instant::now();
        let wait = |limit: &ReadLimit, share: f64| (limit.next(now, share) - now).as_millis();
        assert_eq!([0.0, 1.0].map(|share| wait(&limit, share)), [100, 200]);
        limit.note(now, true);
        assert_eq!([0.0, 1.0].map(|share| wait(&limit, share)), [2_000, 3_000]);
        let waits = [(); 5].map(|()| {
            limit.note(now, false);
            wait(&limit, 0.0)
        });
        assert_eq!(waits, [4_000, 8_000, 16_000, 30_000, 30_000]);
        limit.note(now, true);
        assert_eq!(wait(&limit, 0.0), 2_000);
    }
}
