//! Settings of sessions: lifetimes, the maximum number for each user, and peppers.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nats_rpc_jwt::__private::Clock;
use nats_rpc_jwt::{Revoker, SecretKey};

use super::chain::Pepper;

/// Settings of sessions: lifetimes, the maximum number for each user, and peppers.
#[derive(Debug)]
#[must_use]
pub struct SessionConfig {
    pub(super) peppers: Vec<Pepper>,
    pub(super) limits: Limits,
    pub(super) revoker: Option<Arc<Revoker>>,
    pub(super) clock: Clock,
}

/// Durations in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) grace: u64,
    pub(crate) idle: u64,
    pub(crate) absolute: u64,
    /// The maximum number of sessions of a user.
    pub(crate) cap: usize,
}

impl SessionConfig {
    /// Creates settings with `pepper` (`JWT_REFRESH_SECRET`): 10 s of grace, 7 days idle, 30 days in all, 50 sessions
    /// for each user.
    pub fn new(pepper: &SecretKey) -> Self {
        let days = |days: u64| days * 24 * 60 * 60 * 1000;
        Self {
            peppers: vec![Pepper::new(pepper)],
            limits: Limits { grace: 10_000, idle: days(7), absolute: days(30), cap: 50 },
            revoker: None,
            clock: Clock::default(),
        }
    }

    /// Accepts also the tokens of sessions created with an earlier pepper; keep it as long as those may live.
    pub fn previous_pepper(mut self, pepper: &SecretKey) -> Self {
        self.peppers.push(Pepper::new(pepper));
        self
    }

    /// Sets the grace period, in which a used token returns the same successor again. Default: 10 s.
    ///
    /// If an attacker and a victim use the same token within it, they share a successor, and the next rotation detects
    /// the reuse. Zero is the strictest; two simultaneous requests then end the session.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = millis(grace);
        self
    }

    /// Sets the lifetime of a session without a refresh. Default: 7 days.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.limits.idle = millis(idle);
        self
    }

    /// Sets the total lifetime of a session; refreshing does not extend it. Default: 30 days.
    pub fn absolute(mut self, absolute: Duration) -> Self {
        self.limits.absolute = millis(absolute);
        self
    }

    /// Sets the maximum number of sessions of a user; one more evicts the oldest. Default: 50.
    pub fn cap(mut self, sessions: NonZeroUsize) -> Self {
        self.limits.cap = sessions.get();
        self
    }

    /// Revokes the access tokens of a session that ends by logout, reuse or eviction. Default: they stay valid until
    /// they expire.
    pub fn revoker(mut self, revoker: Arc<Revoker>) -> Self {
        self.revoker = Some(revoker);
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
