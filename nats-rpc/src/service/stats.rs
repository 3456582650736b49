use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::error::Code;

/// The counters of one handler: written by its loop alone, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    shed: AtomicU64,
    expired: AtomicU64,
    foreign: AtomicU64,
    busy_nanos: AtomicU64,
    long_poll_reported: AtomicBool,
}

impl Counters {
    pub(crate) fn finished(&self, took: Duration, failed: Option<Code>) {
        bump(&self.requests, 1);
        bump(&self.busy_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if failed.is_some() {
            bump(&self.errors, 1);
        }
        if failed == Some(Code::DeadlineExceeded) {
            bump(&self.expired, 1);
        }
    }

    pub(crate) fn shed(&self) {
        bump(&self.shed, 1);
    }

    pub(crate) fn foreign(&self) {
        bump(&self.foreign, 1);
    }

    /// Whether a long poll was reported before; from now on it was.
    pub(crate) fn reported_long_poll(&self) -> bool {
        self.long_poll_reported.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn read(&self, handler: &'static str) -> RouteStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RouteStats {
            handler,
            requests: get(&self.requests),
            errors: get(&self.errors),
            shed: get(&self.shed),
            expired: get(&self.expired),
            foreign: get(&self.foreign),
            busy: Duration::from_nanos(get(&self.busy_nanos)),
        }
    }
}

/// One writer, so a load and a store are enough and cheaper than an atomic addition.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl RouteStats {
    /// Adds what the same handler did on another thread.
    pub(super) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.shed += other.shed;
        self.expired += other.expired;
        self.foreign += other.foreign;
        self.busy += other.busy;
    }
}

/// What one handler has done since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The handler's name.
    pub handler: &'static str,
    /// Messages that were answered or, as events, handled; errors among them.
    pub requests: u64,
    /// How many of those ended in an error.
    pub errors: u64,
    /// How many were answered 503 because the backlog was full.
    pub shed: u64,
    /// How many were past their deadline.
    pub expired: u64,
    /// Messages dropped because their subject was not one that the handler subscribed to.
    pub foreign: u64,
    /// The time from arrival to answer, of all together.
    pub busy: Duration,
}
