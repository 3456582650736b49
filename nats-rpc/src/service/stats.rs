use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::RpcError;
use crate::metrics::{RouteMetrics, UnexpectedMessage};

/// The upper bounds of the latency buckets, in milliseconds; the last bucket has none.
pub(crate) const BUCKETS_MS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 500, 1_000];
/// The longest text kept of a last error, in bytes.
const MAX_LAST_ERROR: usize = 256;

/// The counters of one handler: only its loop writes them, any thread may read them.
#[derive(Debug)]
pub(crate) struct Counters {
    requests: AtomicU64,
    errors: AtomicU64,
    shed: AtomicU64,
    expired: AtomicU64,
    unexpected: AtomicU64,
    rejected_reply_subjects: AtomicU64,
    /// The number of messages that were dropped before the handler.
    dropped: AtomicU64,
    busy_nanos: AtomicU64,
    latency: [AtomicU64; BUCKETS_MS.len() + 1],
    last_error: Mutex<LastError>,
    long_poll_reported: AtomicBool,
    metrics: RouteMetrics,
}

/// The last error of one handler on one thread.
#[derive(Debug, Default)]
struct LastError {
    text: String,
    /// The position of the error among those of all threads.
    order: u64,
}

/// The counter that orders the errors of all threads.
static ERRORS: AtomicU64 = AtomicU64::new(0);

impl Counters {
    pub(crate) fn new(service: &str, handler: &'static str) -> Self {
        Self {
            requests: AtomicU64::default(),
            errors: AtomicU64::default(),
            shed: AtomicU64::default(),
            expired: AtomicU64::default(),
            unexpected: AtomicU64::default(),
            rejected_reply_subjects: AtomicU64::default(),
            dropped: AtomicU64::default(),
            busy_nanos: AtomicU64::default(),
            latency: Default::default(),
            last_error: Mutex::default(),
            long_poll_reported: AtomicBool::default(),
            metrics: RouteMetrics::new(service, handler),
        }
    }

    pub(crate) fn began(&self) {
        self.metrics.began();
    }

    pub(crate) fn finished(&self, took: Duration, outcome: &'static str) {
        self.metrics.finished(took, outcome);
        bump(&self.requests, 1);
        bump(&self.busy_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        let bucket = BUCKETS_MS.iter().take_while(|bound| took > Duration::from_millis(**bound)).count();
        bump(&self.latency[bucket], 1);
    }

    /// Returns how many requests have finished, including those with errors.
    pub(crate) fn finished_so_far(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns how many messages have been finished or dropped.
    pub(crate) fn ended_so_far(&self) -> u64 {
        self.finished_so_far() + self.dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self, error: &RpcError) {
        bump(&self.errors, 1);
        if error.code() == crate::error::Code::DeadlineExceeded {
            bump(&self.expired, 1);
        }
        let message = error.message();
        let message = &message[..message.floor_char_boundary(MAX_LAST_ERROR)];
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        last.order = ERRORS.fetch_add(1, Ordering::Relaxed) + 1;
        last.text.clear();
        // Writing into a string cannot fail.
        let _ = write!(last.text, "{}:{message}", error.code().status());
    }

    pub(crate) fn shed(&self) {
        self.metrics.shed();
        bump(&self.shed, 1);
    }

    pub(crate) fn unexpected(&self, reason: UnexpectedMessage) {
        self.metrics.unexpected(reason);
        bump(&self.unexpected, 1);
        bump(&self.dropped, 1);
    }

    /// Counts a rejected reply subject; `dropped` is `true` if its message was dropped, as that of a request is.
    pub(crate) fn rejected_reply_subject(&self, dropped: bool) {
        self.metrics.rejected_reply_subject();
        bump(&self.rejected_reply_subjects, 1);
        bump(&self.dropped, u64::from(dropped));
    }

    /// Returns `true` if a long poll was reported before, and marks it as reported.
    pub(crate) fn reported_long_poll(&self) -> bool {
        self.long_poll_reported.swap(true, Ordering::Relaxed)
    }

    pub(crate) fn read(&self, handler: &'static str) -> RouteStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        RouteStats {
            handler,
            requests: get(&self.requests),
            errors: get(&self.errors),
            shed: get(&self.shed),
            expired: get(&self.expired),
            unexpected: get(&self.unexpected),
            rejected_reply_subjects: get(&self.rejected_reply_subjects),
            busy: Duration::from_nanos(get(&self.busy_nanos)),
            latency: self.latency.iter().map(get).collect(),
            last_error: last.text.clone(),
            last_error_order: last.order,
        }
    }
}

/// There is only one writer, so a load and a store are enough and cheaper than an atomic addition.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl RouteStats {
    /// Adds the statistics of the same handler on another thread.
    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, u64::wrapping_add);
        self.busy += other.busy;
        if self.last_error_order < other.last_error_order {
            self.last_error_order = other.last_error_order;
            self.last_error.clone_from(&other.last_error);
        }
    }

    /// Subtracts the statistics at an earlier time.
    pub(super) fn subtract(&mut self, earlier: &Self) {
        self.combine(earlier, u64::saturating_sub);
        self.busy = self.busy.saturating_sub(earlier.busy);
        if self.errors == 0 {
            self.last_error.clear();
        }
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let pairs = [
            (&mut self.requests, other.requests),
            (&mut self.errors, other.errors),
            (&mut self.shed, other.shed),
            (&mut self.expired, other.expired),
            (&mut self.unexpected, other.unexpected),
            (&mut self.rejected_reply_subjects, other.rejected_reply_subjects),
        ];
        let latency = self.latency.iter_mut().zip(other.latency.iter().copied());
        for (own, other) in pairs.into_iter().chain(latency) {
            *own = with(*own, other);
        }
    }
}

/// The statistics of one handler since the start, or since
/// [`ServiceHandle::reset_stats`](super::ServiceHandle::reset_stats).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStats {
    /// The handler's name.
    pub handler: &'static str,
    /// The number of messages that got a reply or, as events, were handled; errors included.
    pub requests: u64,
    /// The number of those that ended in an error.
    pub errors: u64,
    /// The number of requests that got a 503 because the backlog was full.
    pub shed: u64,
    /// The number of requests that were past their deadline.
    pub expired: u64,
    /// The number of messages dropped because they were not sent to the handler: their subject does not match its
    /// subscription, or nats-server forwards them from a stream.
    pub unexpected: u64,
    /// The number of reply subjects that were rejected because they are not [inboxes](crate::ReplySubjects). Such a
    /// request is not handled and gets no reply; such an event is handled.
    pub rejected_reply_subjects: u64,
    /// The total time from arrival to reply, over all messages.
    pub busy: Duration,
    /// The number of messages that took at most 1, 2, 5, 10, 25, 50, 100, 500, 1,000 ms, and longer.
    pub latency: Vec<u64>,
    /// The last error as `code:message`, empty if there was none.
    pub last_error: String,
    /// The position of the last error among those of all threads; 0 if there was none.
    pub(super) last_error_order: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_error_is_the_last_of_all_threads() {
        let [first, second] = ["h", "h"].map(|handler| Counters::new("s", handler));
        let fail = |counters: &Counters, text: &str| counters.failed(&RpcError::conflict(text.to_owned()));
        let last = || {
            let mut total = first.read("h");
            total.add(&second.read("h"));
            total.last_error
        };
        assert_eq!(last(), "");
        fail(&second, "of the second");
        assert_eq!(last(), "409:of the second");
        fail(&first, "of the first");
        assert_eq!(last(), "409:of the first");
        fail(&second, "again");
        assert_eq!(last(), "409:again");
    }
}
