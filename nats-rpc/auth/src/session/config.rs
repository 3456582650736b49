//! How long sessions live, how many a user has, and what protects them.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nats_rpc_jwt::__private::Clock;
use nats_rpc_jwt::{Revoker, SecretKey};

use super::chain::Pepper;

/// How long sessions live, and what protects them.
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
    /// How many sessions a user may have.
    pub(crate) cap: usize,
}

impl SessionConfig {
    /// Sessions protected by `pepper` (`JWT_REFRESH_SECRET`): 10 s of grace, 7 days idle, 30 days in all,
    /// 50 for each user.
    pub fn new(pepper: &SecretKey) -> Self {
        let days = |days: u64| days * 24 * 60 * 60 * 1000;
        Self {
            peppers: vec![Pepper::new(pepper)],
            limits: Limits { grace: 10_000, idle: days(7), absolute: days(30), cap: 50 },
            revoker: None,
            clock: Clock::default(),
        }
    }

    /// Also takes the tokens of sessions begun with an earlier pepper; keep it for as long as those may live.
    pub fn previous_pepper(mut self, pepper: &SecretKey) -> Self {
        self.peppers.push(Pepper::new(pepper));
        self
    }

    /// For how long a token that was used gives the same successor again. Default: 10 s.
    ///
    /// A thief and a victim who use the same token within it share a successor, which the next rotation
    /// exposes. Zero is the strictest; two requests at once then end the session.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.limits.grace = millis(grace);
        self
    }

    /// How long a session lives without being refreshed. Default: 7 days.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.limits.idle = millis(idle);
        self
    }

    /// How long a session lives in all; refreshing does not extend it. Default: 30 days.
    pub fn absolute(mut self, absolute: Duration) -> Self {
        self.limits.absolute = millis(absolute);
        self
    }

    /// How many sessions a user may have; one more ends the oldest. Default: 50.
    pub fn cap(mut self, sessions: NonZeroUsize) -> Self {
        self.limits.cap = sessions.get();
        self
    }

    /// Revokes the access tokens of a session that ends: by log-out, by reuse, by the cap. Default: they live
    /// on until they expire.
    pub fn revoker(mut self, revoker: Arc<Revoker>) -> Self {
        self.revoker = Some(revoker);
        self
    }

    /// Takes the time from `now` rather than from the system; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
