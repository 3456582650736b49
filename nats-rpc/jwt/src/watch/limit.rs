//! The moments at which a process may read.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two reads for the same suspicion.
const EVERY: Duration = Duration::from_secs(2);
/// The longest, where reads bring nothing new.
const LONGEST: Duration = Duration::from_secs(30);

/// A random duration up to `most`, so that thousands of processes do not read at the same instant.
pub(crate) fn spread(most: Duration) -> Duration {
    most.mul_f64(fastrand::f64())
}

/// Allows a read at most each two seconds, less often while reads are in vain.
///
/// Messages that somebody forges could start reads. They are in vain, so they become rare.
#[derive(Debug, Default)]
pub(crate) struct ReadLimit {
    last: Option<Instant>,
    in_vain: u32,
}

impl ReadLimit {
    /// The first moment from `now` on at which a read may begin: soon, but not for all processes at once.
    pub(crate) fn next(&self, now: Instant, share: f64) -> Instant {
        let soon = now + Duration::from_millis(100).mul_f64(1.0 + share);
        let every = crate::doubled::doubled(EVERY, self.in_vain, LONGEST);
        self.last.map_or(soon, |last| soon.max(last + every.mul_f64(1.0 + share / 2.0)))
    }

    /// Notes a read that began at `now`, and whether it brought anything.
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
