//! What the leader of a bucket's stream proves about a replica of it. No network, no timers.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::follow::Seen;

/// How long the replica may be behind the bucket before it reads it anew: what it waits for may have
/// expired before it was delivered.
const LAG_LIMIT: Duration = Duration::from_secs(4);

/// What the stream's leader said, and when it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) asked: Instant,
    /// The stream's last sequence.
    pub(super) last: u64,
    /// When the stream was created, by which one is told from another of its name.
    pub(super) created: OffsetDateTime,
}

/// What an answer comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At this moment, what has been seen since was everything.
    Proven(Instant),
    /// What was there when it was asked is yet to be seen.
    Open,
    /// The bucket has to be read anew, for this reason.
    Reread(&'static str),
}

/// The earliest answer that proves nothing yet.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    behind: Option<Answer>,
}

impl Proofs {
    /// Judges the next `answer`, given that everything up to `seen` had been seen when it came, at `now`.
    pub(super) fn judge(&mut self, answer: Answer, seen: Option<Seen>, now: Instant) -> Verdict {
        let earlier = self.behind.take();
        // It is being read, or about to be. To have that begun anew would keep it from ever ending.
        let Some(seen) = seen else { return Verdict::Open };
        // The sequences of a stream say nothing of another one of its name.
        if seen.created != answer.created {
            return Verdict::Reread("it is another one");
        }
        let earlier = earlier.filter(|earlier| earlier.created == answer.created);
        let is_seen = |answer: &Answer| answer.last <= seen.sequence;
        let (proven, open): (Vec<_>, Vec<_>) = [earlier, Some(answer)].into_iter().flatten().partition(is_seen);
        if let Some(open) = open.first() {
            // The earliest question that is open tells how long it has been.
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

    /// A leader that is asked each second after the time that is given as well, and what is made of its answers.
    struct Leader {
        start: Instant,
        created: OffsetDateTime,
        /// When the stream was created that is read.
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

        /// What comes of the answer, 1 ms later, that `last` is the last sequence, when all up to `seen` was seen.
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
