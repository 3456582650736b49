//! Retries of calls: the pauses between them, and the retry budget.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The first pause, before jitter.
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause, before jitter.
const LONGEST: Duration = Duration::from_millis(100);
/// The price of a retry; each call adds 1 to the budget.
const PRICE: i64 = 10;
/// The maximum budget: it allows a burst of retries after a quiet period.
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
        // Half of the pause is fixed, so that it is never zero.
        let pause = self.0.mul_f64(0.5 + share / 2.0);
        self.0 = (self.0 * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
    }
}

/// The retry budget of all calls of a client: one retry per ten calls, plus an initial allowance.
pub(super) struct Budget(AtomicI64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicI64::new(SAVINGS))
    }
}

impl Budget {
    pub(super) fn deposit(&self) {
        let add = |saved: i64| (saved < SAVINGS).then_some(saved + 1);
        // An error means that the budget is full.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry from the budget; returns `true` if there was enough.
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
