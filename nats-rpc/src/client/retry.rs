//! When a call is sent again, and how often at most.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_millis(100);
/// What a retry costs; each call pays in 1.
const PRICE: i64 = 10;
/// What can be saved up: retries for a burst after a quiet time.
const SAVINGS: i64 = 100 * PRICE;

/// The pauses between the attempts of one call: doubling, with full jitter.
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(super) async fn pause(&mut self) {
        let share = (RandomState::new().hash_one(0_u8) % 1_000) as f64 / 1_000.0;
        // Half is fixed, so that a pause is never none.
        let pause = self.0.mul_f64(0.5 + share / 2.0);
        self.0 = (self.0 * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
    }
}

/// How many retries all calls of a client may make together: one for each ten calls, and some to begin with.
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(SAVINGS))
    }
}

impl Budget {
    pub(super) fn deposit(&self) {
        let add = |saved: i64| (saved < SAVINGS).then_some(saved + 1);
        // An error means that the savings are full.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Whether another attempt may be made.
    pub(super) fn withdraw(&self) -> bool {
        let take = |saved: i64| (saved >= PRICE).then_some(saved - PRICE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_call_in_ten_may_be_retried_once_the_savings_are_spent() {
        let budget = Budget::default();
        assert_eq!((0..1_000).filter(|_| budget.withdraw()).count(), 100);
        let retried = (0..1_000).filter(|_| {
            budget.deposit();
            budget.withdraw()
        });
        assert_eq!(retried.count(), 100);
    }
}
