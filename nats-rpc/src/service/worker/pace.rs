//! How a loop notices that messages come faster than its handlers take them.
//!
//! A handler that waits for something shows it: its slots fill, then the backlog. One that only computes is
//! done at its first poll, so neither ever fills, and what it cannot keep up with would wait unseen in the
//! channel of the subscription. The loop therefore works in slices. If two in a row end before the
//! subscription was seen empty, it is behind: between further slices it takes everything that waits into the
//! backlog, and what finds no place there is answered 503.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::Stream;
use tokio::task::coop;

use super::Worker;

/// How long handlers run before the rest of the thread has a turn.
const SLICE: Duration = Duration::from_millis(10);
/// What is done within this time is no surplus, however many requests it is.
const SHORT_WAIT: Duration = Duration::from_millis(50);
/// How many messages are taken in before handlers have their turn again, as more may come for ever.
const INTAKE: usize = 1_024;

/// Where a loop stands between being idle and being behind.
pub(super) struct Pace {
    phase: Phase,
    /// When the slice began, and how many requests had been finished then; `None` before it has begun.
    began: Option<(Instant, u64)>,
    /// When the slice is over: all that a request costs is a look at it.
    until: Instant,
    /// How many requests are finished in a [`SHORT_WAIT`], as the last slice showed.
    quick: usize,
    /// How many messages were taken in since it ended.
    taken_in: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The subscription was seen empty since the last slice ended.
    UpToDate,
    /// A slice has ended since then. It may be the machine that was busy elsewhere.
    Late,
    /// So has another: all that waits is taken in before the next one.
    Behind,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::UpToDate, began: None, until: now, quick: 0, taken_in: 0 }
    }

    /// Begins a slice, unless one is under way that was only interrupted.
    fn begin(&mut self, now: Instant, finished: u64) {
        if self.began.is_none() {
            self.began = Some((now, finished));
            self.until = now + SLICE;
        }
    }

    /// Whether the slice is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.until
    }

    /// Ends the slice.
    fn end(&mut self, now: Instant, finished: u64) {
        if let Some((began, before)) = self.began.take() {
            // A slice that is over has taken time.
            let rate = finished.wrapping_sub(before) as f64 / now.duration_since(began).as_secs_f64();
            self.quick = (rate * SHORT_WAIT.as_secs_f64()) as usize;
        }
        self.phase = match self.phase {
            Phase::UpToDate => Phase::Late,
            Phase::Late | Phase::Behind => Phase::Behind,
        };
    }

    /// The subscription was seen empty.
    fn caught_up(&mut self) {
        self.phase = Phase::UpToDate;
        self.began = None;
    }
}

impl Worker<'_> {
    /// Begins a slice, or goes on with one; `false` if the intake before it is interrupted.
    pub(super) fn begin_slice(&mut self, cx: &mut Context<'_>) -> bool {
        if self.pace.began.is_none() && self.pace.phase == Phase::Behind && self.take_in(cx).is_pending() {
            return false;
        }
        self.pace.begin(self.now, self.endpoint.counters.finished_so_far());
        true
    }

    /// Ends a slice: the rest of the thread has a turn, its connection among them.
    #[cold]
    pub(super) fn end_slice(&mut self, cx: &mut Context<'_>) {
        self.pace.end(self.now, self.endpoint.counters.finished_so_far());
        // Unlike a plain wake-up, this lets the runtime look for input and timers before it comes back.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
    }

    /// Notes that the subscription has brought nothing, which it also says where the task has used up its turn.
    pub(super) fn rest(&mut self) {
        if coop::has_budget_remaining() {
            self.pace.caught_up();
        }
    }

    /// Takes what waits in the subscription into the backlog, and turns away what finds no place there.
    #[cold]
    fn take_in(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.pace.taken_in < INTAKE && self.open && !self.outbox.is_full() {
            match Pin::new(&mut self.subscriber).poll_next(cx) {
                Poll::Ready(Some(message)) => {
                    self.pace.taken_in += 1;
                    self.now = Instant::now();
                    if !self.is_unexpected(&message) {
                        // A handler whose slots are full is one that waits: only the count holds for it.
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

    /// A pace after slices of 10 ms, in each of which `finished` requests were finished.
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
