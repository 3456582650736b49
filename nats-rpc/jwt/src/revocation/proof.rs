//! Checks by the stream leader's state that a replica of its bucket is complete. Pure: no I/O, no timers.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::follow::Seen;

/// The time for which the replica may lag behind the bucket before it reads it again: a missing message may have
/// expired before delivery.
const LAG_LIMIT: Duration = Duration::from_secs(4);

/// The reply of the stream's leader, and the time of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) asked: Instant,
    /// The stream's last sequence.
    pub(super) last: u64,
    /// The creation time of the stream, which distinguishes it from another one of the same name.
    pub(super) created: OffsetDateTime,
}

/// The conclusion from a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The replica was complete at this instant.
    Proven(Instant),
    /// The replica has not reached the leader's state yet.
    Open,
    /// The bucket must be read again, for this reason.
    Reread(&'static str),
}

/// The earliest reply that the replica has not reached yet.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    behind: Option<Answer>,
}

impl Proofs {
    /// Evaluates the next `answer`, which arrived at `now` when everything up to `seen` had been received.
    pub(super) fn judge(&mut self, answer: Answer, seen: Option<Seen>, now: Instant) -> Verdict {
        let earlier = self.behind.take();
        // A read is in progress or about to begin. A restart now would prevent it from ever completing.
        let Some(seen) = seen else { return Verdict::Open };
        // Sequences cannot be compared with those of another stream of the same name.
        if seen.created != answer.created {
            return Verdict::Reread("it is another one");
        }
        let earlier = earlier.filter(|earlier| earlier.created == answer.created);
        let is_seen = |answer: &Answer| answer.last <= seen.sequence;
        let (proven, open): (Vec<_>, Vec<_>) = [earlier, Some(answer)].into_iter().flatten().partition(is_seen);
        if let Some(open) = open.first() {
            // The earliest open request determines the lag.
            if now.saturating_duration_since(open.asked) > LAG_LIMIT {
                return Verdict::Reread("what it holds does not arrive");
            }
            self.behind = Some(*open);
        }
        proven.last().map_or(Verdict::Open, |proof| Verdict::Proven(proof.asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A leader that receives a request every second after the given instant, and the conclusions from its replies.
    struct Leader {
        start: Instant,
        created: OffsetDateTime,
        /// The creation time of the stream that is read.
        read: OffsetDateTime,
        proofs: Proofs,
    }

    impl Leader {
        fn new() -> Self {
            let created = OffsetDateTime::UNIX_EPOCH;
            Self { start: Instant::now(), created, read: created, proofs: Proofs::default() }
        }

        fn at(&self, second: u32) -> Instant {
            self.start + SECOND * second
        }

        /// Returns the conclusion from a reply that arrives 1 ms later, with the last sequence `last`, when all up to
        /// `seen` was received.
        fn says(&mut self, second: u32, last: u64, seen: impl Into<Option<u64>>) -> Verdict {
            let asked = self.at(second);
            let answer = Answer { asked, last, created: self.created };
            let seen = self.seen(seen);
            self.proofs.judge(answer, seen, asked + Duration::from_millis(1))
        }

        fn seen(&self, sequence: impl Into<Option<u64>>) -> Option<Seen> {
            sequence.into().map(|sequence| Seen { created: self.read, sequence })
        }
    }

    #[test]
    fn once_the_last_sequence_was_seen_everything_had_been_when_it_was_asked_for() {
        let mut leader = Leader::new();
        for (second, last, seen) in [(0, 1, 1), (1, 7, 7), (2, 7, 9)] {
            assert_eq!(leader.says(second, last, seen), Verdict::Proven(leader.at(second)));
        }
    }

    #[test]
    fn what_is_not_seen_yet_proves_nothing_until_it_is() {
        let mut leader = Leader::new();
        assert_eq!(leader.says(0, 7, None), Verdict::Open, "the history was not seen");
        assert_eq!(leader.says(1, 7, 6), Verdict::Open);
        assert_eq!(leader.says(2, 9, 7), Verdict::Proven(leader.at(1)), "of that question all was seen");
        assert_eq!(leader.says(3, 9, 8), Verdict::Open);
        assert_eq!(leader.says(4, 9, 9), Verdict::Proven(leader.at(4)));
    }

    #[test]
    fn what_does_not_arrive_within_4_s_has_everything_read_anew() {
        let mut leader = Leader::new();
        for second in 0..4 {
            assert_eq!(leader.says(second, 7 + u64::from(second), 6), Verdict::Open);
        }
        assert!(matches!(leader.says(4, 20, 6), Verdict::Reread(_)));
        assert_eq!(leader.says(5, 20, 6), Verdict::Open, "it has another 4 s");
        let answer = Answer { asked: leader.at(6), last: 20, created: leader.created };
        let seen = leader.seen(6);
        assert_eq!(leader.proofs.judge(answer, seen, leader.at(9)), Verdict::Open, "4 s are not more than 4 s");
    }

    #[test]
    fn what_is_being_read_is_not_read_anew_however_long_that_takes() {
        let mut leader = Leader::new();
        assert_eq!(leader.says(0, 7, 6), Verdict::Open);
        for second in 1..100 {
            assert_eq!(leader.says(second, 7, None), Verdict::Open);
        }
        assert_eq!(leader.says(100, 8, 7), Verdict::Open, "what was asked before is forgotten");
        assert_eq!(leader.says(101, 8, 8), Verdict::Proven(leader.at(101)));
    }

    #[test]
    fn another_stream_of_the_name_is_read_anew_and_what_was_asked_of_the_old_one_forgotten() {
        let mut leader = Leader::new();
        assert_eq!(leader.says(0, 100, 99), Verdict::Open);
        leader.created += SECOND;
        assert!(matches!(leader.says(1, 3, 100), Verdict::Reread(_)));
        leader.read = leader.created;
        assert_eq!(leader.says(6, 3, 2), Verdict::Open, "asked 6 s ago, of the old one");
        assert_eq!(leader.says(7, 3, 3), Verdict::Proven(leader.at(7)));
    }

    #[test]
    fn what_was_asked_of_the_old_one_is_forgotten_also_while_the_new_one_is_read() {
        let mut leader = Leader::new();
        assert_eq!(leader.says(0, 100, 99), Verdict::Open);
        leader.created += SECOND;
        assert_eq!(leader.says(3, 3, None), Verdict::Open);
        leader.read = leader.created;
        assert_eq!(leader.says(6, 3, 2), Verdict::Open, "asked 3 s ago, of the new one");
    }

    #[test]
    fn a_stream_that_is_another_one_before_it_was_ever_asked_proves_nothing() {
        let mut leader = Leader::new();
        leader.created += SECOND;
        assert!(matches!(leader.says(0, 2, 51), Verdict::Reread(_)));
    }
}
