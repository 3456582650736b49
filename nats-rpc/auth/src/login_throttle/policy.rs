//! The first failure that causes a wait, and the duration of waits.

use std::time::Duration;

use nats_rpc_jwt::__private::doubled;

/// The first failure that causes a wait, and the duration of waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThrottlePolicy {
    /// The first failure that causes a wait.
    pub from: u32,
    /// The duration of the first wait; each further one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// The time after the last wait until the count expires.
    pub memory: Duration,
}

impl ThrottlePolicy {
    /// For an account: 1 s after the fifth failure, doubling to 15 min; expires after an hour.
    pub const ACCOUNT: Self = Self {
        from: 5,
        first: Duration::from_secs(1),
        longest: Duration::from_mins(15),
        memory: Duration::from_hours(1),
    };
    /// For a source, which may be a whole office: 1 s after the twentieth failure, doubling to 1 min; expires after 15
    /// min.
    pub const SOURCE: Self = Self {
        from: 20,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        memory: Duration::from_mins(15),
    };

    /// Returns the same policy with another first failure that causes a wait.
    #[must_use]
    pub const fn starting_at(self, failure: u32) -> Self {
        Self { from: failure, ..self }
    }

    /// Returns the wait after the failure with this number.
    pub(super) fn wait(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.from) else { return Duration::ZERO };
        doubled(self.first, doublings, self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_fifth_failure_and_are_bounded() {
        let waits: Vec<u64> = (1..=20).map(|failures| ThrottlePolicy::ACCOUNT.wait(failures).as_secs()).collect();
        assert_eq!(waits[..8], [0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(waits[13..], [512, 900, 900, 900, 900, 900, 900]);
        assert_eq!(ThrottlePolicy::ACCOUNT.wait(u32::MAX), ThrottlePolicy::ACCOUNT.longest);
    }
}
