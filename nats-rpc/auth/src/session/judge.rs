//! Classification of a presented refresh token: current, repeated, reused, or invalid.

use subtle::ConstantTimeEq;

use super::chain::Chain;
use super::record::Record;
use super::token::{RefreshToken, digest};

/// The maximum number of refreshes of a session: more than one every three minutes for 30 days.
///
/// It bounds the distance of an old token, so that every earlier token can be distinguished from a forged one, and an
/// attacker cannot exceed the distance by refreshing fast. That many generations are some 4 ms of work, which runs
/// [outside of the endpoint's task](super::Sessions::judge_token).
const MAX_GENERATION: u32 = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The current token: rotate.
    Current,
    /// The previous token, within the grace period: return the same successor again.
    Repeated,
    /// A genuine earlier token: another party has used it. End the session.
    Reused,
    /// The current token of a session that reached the maximum number of refreshes: end it.
    Spent,
    /// Expired or forged: reject it, change nothing.
    Invalid,
}

/// Returns how many generations a possibly genuine token is behind, which is the cost of its classification. Zero if
/// there is nothing to compute.
pub(super) fn generations_behind(record: &Record, presented: &RefreshToken) -> u32 {
    let behind = record.generation.checked_sub(presented.generation);
    behind.filter(|behind| *behind <= MAX_GENERATION).unwrap_or(0)
}

/// Classifies a token of the record's session at `now`, with `grace` in milliseconds.
pub(super) fn judge(record: &Record, presented: &RefreshToken, chain: &Chain<'_>, now: u64, grace: u64) -> Judgement {
    if now >= record.expiry() {
        return Judgement::Invalid;
    }
    let Some(behind) = record.generation.checked_sub(presented.generation) else {
        return Judgement::Invalid;
    };
    // A session from before the maximum existed.
    if behind > MAX_GENERATION {
        return Judgement::Invalid;
    }
    // A genuine token of any age leads to the current secret; a forged one does not.
    let current = chain.roll_forward(presented, behind);
    if !bool::from(digest(&current).ct_eq(&record.digest)) {
        return Judgement::Invalid;
    }
    match behind {
        0 if record.generation >= MAX_GENERATION => Judgement::Spent,
        0 => Judgement::Current,
        1 if now.saturating_sub(record.rotated_at) < grace => Judgement::Repeated,
        _ => Judgement::Reused,
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc_jwt::SecretKey;

    use super::super::Owner;
    use super::super::chain::Pepper;
    use super::super::config::Limits;
    use super::*;

    const LIMITS: Limits = Limits { grace: 10_000, idle: 700_000, absolute: 3_000_000, cap: 50 };
    const START: u64 = 1_000_000;

    /// A session with its tokens, oldest first.
    struct Life {
        pepper: Pepper,
        record: Record,
        tokens: Vec<RefreshToken>,
    }

    impl Life {
        fn new() -> Self {
            let pepper = Pepper::new(&SecretKey::new("P", [1; 32]).unwrap());
            let token = RefreshToken::random("u1").unwrap();
            let record = Record::begin(&token, &pepper, Owner::new("u1", "k1"), START, &LIMITS);
            Self { pepper, record, tokens: vec![token] }
        }

        fn rotate(&mut self, now: u64) {
            let current = self.tokens.last().unwrap();
            let successor = Chain::new(&self.pepper, current.sid).successor(current);
            self.record = self.record.rotate(&successor, now, &LIMITS);
            self.tokens.push(successor);
        }

        fn judge(&self, token: &RefreshToken, now: u64) -> Judgement {
            judge(&self.record, token, &Chain::new(&self.pepper, token.sid), now, LIMITS.grace)
        }
    }

    #[test]
    fn the_current_token_is_current_and_its_predecessor_repeated_within_grace() {
        let mut life = Life::new();
        assert_eq!(life.judge(&life.tokens[0], START), Judgement::Current);
        life.rotate(START + 500);
        assert_eq!(life.judge(&life.tokens[1], START + 500), Judgement::Current);
        for (after, judgement) in [(0, Judgement::Repeated), (9_999, Judgement::Repeated), (10_000, Judgement::Reused)]
        {
            assert_eq!(life.judge(&life.tokens[0], START + 500 + after), judgement, "{after} ms");
        }
        // The clock is behind that of the instance which rotated.
        assert_eq!(life.judge(&life.tokens[0], START), Judgement::Repeated);
    }

    #[test]
    fn refresh_01_an_old_token_after_grace_is_reuse() {
        let mut life = Life::new();
        life.rotate(START);
        assert_eq!(life.judge(&life.tokens[0], START + 60_000), Judgement::Reused);
    }

    #[test]
    fn refresh_02_a_grandparent_is_reuse_even_within_grace() {
        let mut life = Life::new();
        life.rotate(START);
        life.rotate(START);
        assert_eq!(life.judge(&life.tokens[0], START), Judgement::Reused);
        assert_eq!(life.judge(&life.tokens[1], START), Judgement::Repeated);
        assert_eq!(life.judge(&life.tokens[2], START), Judgement::Current);
    }

    #[test]
    fn refresh_05_a_forged_token_of_any_generation_is_nothing() {
        let mut life = Life::new();
        for _ in 0..5 {
            life.rotate(START);
        }
        for generation in [0, 3, 4, 5, 6, 1_000] {
            let forged = RefreshToken { sid: life.tokens[0].sid, generation, secret: [9; 32].into() };
            assert_eq!(life.judge(&forged, START), Judgement::Invalid, "{generation}");
        }
        // A genuine secret with another generation.
        for (token, generation) in [(0, 1), (4, 5), (5, 4), (5, 6)] {
            let forged = RefreshToken { generation, ..life.tokens[token].clone() };
            assert_eq!(life.judge(&forged, START), Judgement::Invalid, "{token} as {generation}");
        }
        assert_eq!(life.judge(&life.tokens[5], START), Judgement::Current);
    }

    #[test]
    fn refresh_07_extreme_generations_are_refused_without_work() {
        let mut life = Life::new();
        life.rotate(START);
        let at = |generation: u32| RefreshToken { generation, ..life.tokens[1].clone() };
        for generation in [2, u32::MAX] {
            assert_eq!(life.judge(&at(generation), START), Judgement::Invalid);
        }
        let ancient = Record { generation: u32::MAX, ..life.record.clone() };
        let chain = Chain::new(&life.pepper, life.tokens[0].sid);
        let start = std::time::Instant::now();
        for token in [&life.tokens[0], &at(u32::MAX - MAX_GENERATION - 1)] {
            assert_eq!(judge(&ancient, token, &chain, START, 10), Judgement::Invalid);
        }
        assert!(start.elapsed() < std::time::Duration::from_millis(100));
    }

    #[test]
    fn a_session_ends_before_it_has_a_token_that_could_not_be_told_from_a_forged_one() {
        let mut life = Life::new();
        for _ in 0..MAX_GENERATION - 1 {
            life.rotate(START);
        }
        assert_eq!(life.judge(life.tokens.last().unwrap(), START), Judgement::Current);
        life.rotate(START);
        let last = life.tokens.len() - 1;
        assert_eq!(life.judge(&life.tokens[last], START), Judgement::Spent);
        assert_eq!(life.judge(&life.tokens[last - 1], START), Judgement::Repeated);
        for old in [0, 1, last - 2] {
            assert_eq!(life.judge(&life.tokens[old], START), Judgement::Reused, "{old}");
        }
        // A session from before the maximum existed.
        let secret = life.tokens[last].secret.clone();
        let beyond = RefreshToken { generation: u32::MAX, secret, ..life.tokens[last].clone() };
        let record = Record { generation: u32::MAX, ..life.record.clone() };
        assert_eq!(judge(&record, &beyond, &Chain::new(&life.pepper, beyond.sid), START, 10), Judgement::Spent);
    }

    #[test]
    fn refresh_08_an_expired_session_has_no_good_token() {
        let mut life = Life::new();
        assert_eq!(life.judge(&life.tokens[0], START + LIMITS.idle - 1), Judgement::Current);
        assert_eq!(life.judge(&life.tokens[0], START + LIMITS.idle), Judgement::Invalid);
        let mut now = START;
        while now + 600_000 < START + LIMITS.absolute {
            now += 600_000;
            assert_eq!(life.judge(life.tokens.last().unwrap(), now), Judgement::Current);
            life.rotate(now);
        }
        assert_eq!(life.judge(life.tokens.last().unwrap(), START + LIMITS.absolute - 1), Judgement::Current);
        assert_eq!(life.judge(life.tokens.last().unwrap(), START + LIMITS.absolute), Judgement::Invalid);
    }
}
