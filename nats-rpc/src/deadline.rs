//! Deadlines: the two headers that carry the deadline of a call, and the deadline of the running handler.
//!
//! `Rpc-Timeout-Ms` is the remaining time in milliseconds. It needs no common clock. `Rpc-Deadline` is the instant
//! itself, in milliseconds since the Unix epoch. It detects a request that waited in a dead connection before it
//! arrived.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::message::Preface;

/// Header with the remaining time, in milliseconds.
pub const TIMEOUT_HEADER: &str = "Rpc-Timeout-Ms";
/// Header with the deadline, in milliseconds since the Unix epoch.
pub const DEADLINE_HEADER: &str = "Rpc-Deadline";

static TIMEOUT: HeaderName = HeaderName::from_static(TIMEOUT_HEADER);
static DEADLINE: HeaderName = HeaderName::from_static(DEADLINE_HEADER);

/// Upper limit of every duration, so that a deadline can always be computed: 30 years.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Limits that a handler sets for the deadlines of its callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Timeout of the handler, used if the caller sends a longer one or none.
    pub(crate) limit: Duration,
    /// Clock skew that `Rpc-Deadline` tolerates: how far the caller's clock may be behind the service's.
    pub(crate) skew: Duration,
}

thread_local! {
    static CURRENT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the deadline of a request that arrived at `arrival`, from its preface and the handler's `allowance`.
///
/// A header that is not a number is ignored; the handler's limit still applies. The deadline has passed exactly if
/// `now` is not before it.
#[inline]
pub(crate) fn of_request(preface: &Preface<'_>, arrival: Instant, now: Instant, allowance: Allowance) -> Instant {
    let mut deadline = arrival + allowance.limit;
    if let Some(by_budget) = preface.timeout.and_then(millis).and_then(|budget| arrival.checked_add(budget)) {
        deadline = deadline.min(by_budget);
    }
    let left = |moment| time_left(moment, allowance.skew);
    if let Some(by_moment) = preface.deadline.and_then(millis).and_then(left).and_then(|left| now.checked_add(left)) {
        deadline = deadline.min(by_moment);
    }
    deadline
}

fn millis(text: &str) -> Option<Duration> {
    Some(Duration::from_millis(text.parse().ok()?))
}

/// Returns the time until `moment`, which counts from the Unix epoch, for a clock that may be `skew` behind.
fn time_left(moment: Duration, skew: Duration) -> Option<Duration> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(moment.saturating_add(skew).saturating_sub(since_epoch))
}

/// Writes both headers for a call with `left` remaining.
pub(crate) fn write(headers: &mut HeaderMap, left: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    headers.insert(TIMEOUT.clone(), HeaderValue::from(left.as_millis() as u64));
    headers.insert(DEADLINE.clone(), HeaderValue::from((now + left).as_millis() as u64));
}

/// Returns the deadline of the handler that this thread is polling. Calls of the handler inherit it.
pub(crate) fn current() -> Option<Instant> {
    CURRENT.get()
}

/// Runs `poll` as part of a handler whose calls inherit `deadline`, if any.
// Every poll of a handler calls this function.
#[inline(always)]
pub(crate) fn scoped<R>(deadline: Option<Instant>, poll: impl FnOnce() -> R) -> R {
    struct Restore(Option<Instant>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(deadline));
    poll()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const ALLOWANCE: Allowance = Allowance { limit: LIMIT, skew: Duration::from_secs(1) };

    fn of_budget(budget: &str, arrival: Instant) -> Instant {
        of_request(&Preface { timeout: Some(budget), ..Preface::default() }, arrival, arrival, ALLOWANCE)
    }

    fn of_moment(unix_ms: u64, arrival: Instant, allowance: Allowance) -> Instant {
        let moment = unix_ms.to_string();
        of_request(&Preface { deadline: Some(&moment), ..Preface::default() }, arrival, Instant::now(), allowance)
    }

    #[test]
    fn the_handler_limit_holds_for_callers_that_send_none() {
        let arrival = Instant::now();
        assert_eq!(of_request(&Preface::default(), arrival, arrival, ALLOWANCE), arrival + LIMIT);
        for junk in ["", "soon", "-1", "1e3", "99999999999999999999999"] {
            assert_eq!(of_budget(junk, arrival), arrival + LIMIT);
        }
    }

    #[test]
    fn the_budget_shortens_and_never_extends() {
        let arrival = Instant::now();
        let short = of_budget("200", arrival);
        assert_eq!(short, arrival + Duration::from_millis(200));
        let long = of_budget("3600000", arrival);
        assert_eq!(long, arrival + LIMIT);
        let huge = of_budget(&u64::MAX.to_string(), arrival);
        assert_eq!(huge, arrival + LIMIT);
    }

    #[test]
    fn a_moment_in_the_past_has_passed_but_for_the_skew() {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let arrival = Instant::now();
        assert!(of_moment(now_ms - 60_000, arrival, ALLOWANCE) <= Instant::now());
        assert!(of_moment(now_ms - 200, arrival, ALLOWANCE) > Instant::now());
        let strict = Allowance { skew: Duration::ZERO, ..ALLOWANCE };
        assert!(of_moment(now_ms - 200, arrival, strict) <= Instant::now());
        assert_eq!(of_moment(u64::MAX, arrival, ALLOWANCE), arrival + LIMIT);
    }

    #[test]
    fn the_current_deadline_ends_with_its_poll_even_by_a_panic() {
        let deadline = Some(Instant::now());
        let _ = std::panic::catch_unwind(|| scoped(deadline, || panic!("handler")));
        assert_eq!(current(), None);
        assert_eq!(scoped(deadline, current), deadline);
    }
}
