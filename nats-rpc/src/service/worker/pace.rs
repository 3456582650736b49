//! Overload detection: notices when messages arrive faster than the handlers process them.
//!
//! A handler that waits for I/O shows the overload: its slots fill, then the backlog. A CPU-bound handler completes in
//! its first poll, so neither ever fills, and the excess messages would accumulate unnoticed in the channel of the
//! subscription. The loop therefore works in slices. If two slices in a row end before the subscription was empty, the
//! loop is behind. Between further slices it then moves all waiting messages into the backlog, and replies 503 to
//! those that exceed it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::task::coop;

use super::Worker;

/// The time that handlers run before other tasks of the thread get a turn.
const SLICE: Duration = Duration::from_millis(10);
/// Requests that the handler finishes within this time are not excess, however many they are.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// The maximum number of messages moved between two slices, as more may arrive without end.
const INTAKE: usize = 1_024;

/// The state of a loop between idle and behind.
pub(super) struct Pace {
    phase: Phase,
    /// The start of the slice and the number of requests finished before it; `None` before the slice begins.
    began: Option<(Instant, u64)>,
    /// The end of the slice; each request costs only one comparison with it.
    until: Instant,
    /// The number of requests that the handler finishes in a [`SHORT_WAIT`], at the rate of the last slice.
    quick: usize,
    /// The number of messages moved since the slice ended.
    taken_in: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The subscription was empty at least once since the last slice ended.
    UpToDate,
    /// One slice has ended since then. The machine may have been busy with other work.
    Late,
    /// A second slice has ended too: all waiting messages are moved before the next one.
    Behind,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::UpToDate, began: None, until: now, quick: 0, taken_in: 0 }
    }

    /// Begins a slice, unless an interrupted one continues.
    fn begin(&mut self, now: Instant, finished: u64) {
        if self.began.is_none() {
            self.began = Some((now, finished));
            self.until = now + SLICE;
        }
    }

    /// Returns `true` if the slice is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Ends the slice.
    fn end(&mut self, now: Instant, finished: u64) {
        if let Some((began, before)) = self.began.take() {
            // A slice that is over has a nonzero duration.
            let rate = finished.wrapping_sub(before) as f64 / now.duration_since(began).as_secs_f64();
            self.quick = (rate * SHORT_WAIT.as_secs_f64()) as usize;
        }
        self.phase = match self.phase {
            Phase::UpToDate => Phase::Late,
            Phase::Late | Phase::Behind => Phase::Behind,
        };
    }

    /// Records that the subscription was empty.
    fn caught_up(&mut self) {
        self.phase = Phase::UpToDate;
        self.began = None;
    }
}

impl Worker<'_> {
    /// Begins or continues a slice; returns `false` if the intake before it is interrupted.
    pub(super) fn begin_slice(&mut self, cx: &mut Context<'_>) -> bool {
        if self.pace.began.is_none() && self.pace.phase == Phase::Behind && self.take_in(cx).is_pending() {
            return false;
        }
        self.pace.begin(self.now, self.endpoint.counters.finished_so_far());
        true
    }

    /// Ends a slice: the other tasks of the thread get a turn, including its connection.
    #[cold]
    pub(super) fn end_slice(&mut self, cx: &mut Context<'_>) {
        self.pace.end(self.now, self.endpoint.counters.finished_so_far());
        // Unlike a plain wake-up, this lets the runtime poll I/O and timers before the task runs again.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    /// Records that the subscription returned no message. It also returns none if the task has exhausted its coop
    /// budget; that case is ignored.
    pub(super) fn rest(&mut self) {
        if coop::has_budget_remaining() {
            self.pace.caught_up();
        }
    }

    /// Moves the waiting messages of the subscription into the backlog, and rejects those that exceed it.
    #[cold]
    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.pace.taken_in < INTAKE && self.open && !self.outbox.is_full() {
            match Pin::new(&mut self.subscriber).poll_next(cx) {
                Poll::Ready(Some(message)) => {
                    self.pace.taken_in += 1;
                    self.now = Instant::now();
                    if !self.is_unexpected(&message) {
                        // A handler whose slots are full waits for I/O: only the configured backlog applies to it.
                        let quick = if self.has_room() { self.pace.quick } else { 0 };
                        self.queue(message, self.endpoint.backlog.max(quick));
                    }
                }
                Poll::Ready(None) => self.open = false,
                Poll::Pending if coop::has_budget_remaining() => break,
                Poll::Pending => return Poll::Pending,
            }
            self.outbox.poll_flush(cx);
        }
        self.pace.taken_in = 0;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the pace after `count` slices of 10 ms, with `finished` requests finished in each.
    fn after_slices(count: u64, finished: u64) -> Pace {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for slice in 0..count {
            pace.begin(now, slice * finished);
            assert!(!pace.is_over(now));
            now += SLICE;
            assert!(pace.is_over(now));
            pace.end(now, (slice + 1) * finished);
        }
        pace
    }

    #[test]
    fn a_loop_is_behind_after_two_slices_without_a_look_at_an_empty_subscription() {
        assert_eq!(after_slices(1, 1).phase, Phase::Late, "the machine may have been busy elsewhere");
        assert_eq!(after_slices(2, 1).phase, Phase::Behind);
        let mut pace = after_slices(3, 1);
        assert_eq!(pace.phase, Phase::Behind);
        pace.caught_up();
        assert_eq!(pace.phase, Phase::UpToDate);
    }

    #[test]
    fn a_slice_that_is_interrupted_goes_on() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        pace.begin(now, 0);
        pace.begin(now + SLICE, 7);
        assert!(pace.is_over(now + SLICE));
        pace.caught_up();
        pace.begin(now + SLICE, 7);
        assert!(!pace.is_over(now + SLICE));
    }

    #[test]
    fn what_is_done_in_a_short_wait_has_a_place_whatever_its_number() {
        assert_eq!(after_slices(1, 1_000).quick, 5_000);
        assert_eq!(after_slices(1, 10).quick, 50);
        assert_eq!(after_slices(2, 0).quick, 0);
    }
}
