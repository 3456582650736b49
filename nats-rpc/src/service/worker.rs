//! The worker of one loop: takes messages, runs handlers, publishes replies.
//!
//! Handlers are polled here, in one task per subscription, and never spawned. A spawned handler would send its reply
//! separately, while this loop sends its replies in batches. A handler that is not ready at its first poll waits in a
//! slot.

mod expiry;
mod pace;
mod reply_subject;
mod streams;
mod unexpected;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use async_nats::{Message, Subject, Subscriber};
use bytes::Bytes;
use futures::Stream;
use tokio::time::Sleep;

use self::pace::Pace;
use super::dispatch::{Endpoint, Intake};
use super::exchange::Exchange;
use super::outbox::Outbox;
use super::stream::Streamed;
use super::waker::{SlotWaker, Woken};
use crate::connection::Live;
use crate::error::RpcError;
use crate::reply::ReplyKind;
use crate::route::HandlerSlot;

/// The maximum delay in detecting a passed deadline. One timer for the whole loop has no measurable cost; a timer for
/// each request costs 4 % of its time.
const TICK: Duration = Duration::from_millis(10);
/// The duration of a poll above which the handler is reported as blocking.
const LONG_POLL: Duration = Duration::from_millis(20);

/// Takes the messages of one subscription and processes each to completion.
pub(super) struct Worker<'a> {
    endpoint: &'a Endpoint,
    pub(super) subscriber: Subscriber,
    /// Is `true` while the subscription may deliver more messages.
    open: bool,
    outbox: Outbox,
    slots: Vec<Slot<'a>>,
    free: Vec<usize>,
    live: usize,
    woken: Arc<Woken>,
    batch: VecDeque<usize>,
    backlog: VecDeque<(Message, Instant)>,
    /// The slots whose streams wait until the outbox is empty.
    stalled: Vec<usize>,
    tick: Pin<Box<Sleep>>,
    /// Is `true` while the tick is scheduled; it is not while every handler is ready at once.
    ticking: bool,
    /// The buffer that a reply is written to.
    scratch: Vec<u8>,
    pace: Pace,
    /// The last reading of the clock: when the loop woke, and after each handler. The work in between is short, and
    /// reading the clock is a significant part of the cost of a small request.
    now: Instant,
}

/// The parts that have ended.
pub(super) enum Done {
    /// The subscription has ended; handlers still run.
    Intake,
    /// The subscription and every handler have ended.
    All,
}

struct Slot<'a> {
    handler: Box<dyn HandlerSlot + 'a>,
    flag: Arc<SlotWaker>,
    waker: Waker,
    exchange: Option<Exchange>,
    /// The stream that the handler replied with, if it did.
    stream: Option<Box<Streamed>>,
    holds_permit: bool,
}

impl<'a> Worker<'a> {
    pub(super) fn new(endpoint: &'a Endpoint, intake: Intake) -> Self {
        let Intake { subscriber, nats, .. } = intake;
        let now = Instant::now();
        Self {
            endpoint,
            subscriber,
            open: true,
            outbox: Outbox::new(nats),
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            woken: Arc::default(),
            batch: VecDeque::new(),
            backlog: VecDeque::new(),
            stalled: Vec::new(),
            tick: Box::pin(tokio::time::sleep(TICK)),
            ticking: false,
            scratch: Vec::new(),
            pace: Pace::new(now),
            now,
        }
    }

    /// Continues with another client: running handlers reply through it.
    pub(super) fn resume(&mut self, subscriber: Option<Subscriber>, live: &Live) {
        self.outbox.renew(live.nats.clone());
        if let Some(subscriber) = subscriber {
            self.subscriber = subscriber;
            self.open = true;
        }
    }

    /// Returns `true` if replies wait for another client, as the current one has ended.
    pub(super) fn is_stranded(&self) -> bool {
        self.outbox.is_stranded()
    }

    /// Returns how many messages it has received since the start.
    pub(super) fn received(&self) -> u64 {
        self.endpoint.counters.ended_so_far() + (self.live + self.backlog.len()) as u64
    }

    /// Does all work that is possible now; ready once the subscription has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        self.now = Instant::now();
        if !self.begin_slice(cx) {
            return Poll::Pending;
        }
        loop {
            self.drive_woken(cx);
            self.expire(cx);
            self.admit_waiting();
            self.outbox.poll_flush(cx);
            if !self.stalled.is_empty() && self.outbox.is_empty() {
                self.wake_stalled();
            }
            if self.outbox.is_full() {
                return Poll::Pending;
            }
            if self.pace.is_over(self.now) {
                self.end_slice(cx);
                return Poll::Pending;
            }
            if !self.open {
                let idle = self.live == 0 && self.backlog.is_empty() && self.outbox.is_empty();
                return Poll::Ready(if idle { Done::All } else { Done::Intake });
            }
            match &mut Pin::new(&mut self.subscriber).poll_next(cx) {
                Poll::Ready(Some(message)) => self.receive(message),
                Poll::Ready(None) => self.open = false,
                Poll::Pending => {
                    self.rest();
                    self.outbox.poll_flush(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Processes one message: runs its handler, queues it, or rejects it.
    fn receive(&mut self, message: &mut Message) {
        if self.is_unexpected(message) || self.rejects_reply_subject(message) {
            return;
        }
        if message.status.is_some() {
            // The filter of the connection replaces unreadable headers by this status.
            let error = RpcError::invalid_argument("the headers cannot be read, or say that this is no request");
            return self.refuse(message, self.now, error);
        }
        if self.has_room() && self.backlog.is_empty() {
            self.admit(message, self.now);
        } else {
            self.queue(take(message), self.endpoint.backlog);
        }
    }

    /// Queues a message if fewer than `room` wait, else rejects it.
    fn queue(&mut self, mut message: Message, room: usize) {
        let arrival = self.now;
        if self.backlog.len() < room {
            self.backlog.push_back((message, arrival));
            self.tick();
        } else {
            self.endpoint.counters.shed();
            let error = RpcError::unavailable("the service is busy: try again, or another instance");
            self.refuse(&mut message, arrival, error);
        }
    }

    /// Returns `true` if one more handler may start. The first one always may, so that handlers that hold all permits
    /// cannot block the others.
    fn has_room(&self) -> bool {
        self.live == 0 || (self.live < self.endpoint.concurrency && self.endpoint.permits.are_left())
    }

    fn admit_waiting(&mut self) {
        while !self.backlog.is_empty() && self.has_room() && !self.pace.is_over(self.now) {
            let Some((mut message, arrival)) = self.backlog.pop_front() else { return };
            self.admit(&mut message, arrival);
        }
    }

    /// Starts the handler for a message and polls it once.
    // A message is large. It stays in place, and only the needed parts are taken out of it.
    #[inline(always)]
    fn admit(&mut self, message: &mut Message, arrival: Instant) {
        let index = match self.free.pop() {
            Some(index) => index,
            None => self.add_slot(),
        };
        self.live += 1;
        let exchange = self.open_exchange(message, arrival);
        let slot = &mut self.slots[index];
        let exchange = slot.exchange.insert(exchange);
        match exchange.request(self.endpoint.wire, message) {
            Ok(request) if exchange.deadline > self.now => slot.handler.start(request),
            Ok(_) => {
                let error = RpcError::deadline_exceeded("the deadline passed before the handler could start");
                return self.release(index, Err(error));
            }
            Err(error) => return self.release(index, Err(error)),
        }
        self.drive(index);
        let slot = &mut self.slots[index];
        if slot.exchange.is_some() {
            // Only a waiting handler takes capacity from other handlers.
            slot.holds_permit = true;
            self.endpoint.permits.take();
            self.tick();
        }
    }

    /// Schedules the tick that checks deadlines.
    fn tick(&mut self) {
        if !self.ticking {
            self.tick.as_mut().reset(tokio::time::Instant::now() + TICK);
            self.ticking = true;
        }
    }

    fn add_slot(&mut self) -> usize {
        let index = self.slots.len();
        if index == 0 {
            // Most handlers never run twice at a time, and a vector reserves space for four at first.
            self.slots.reserve_exact(1);
        }
        let flag = SlotWaker::new(index, self.woken.clone());
        let handler = self.endpoint.route.handler.make_slot(&self.endpoint.route.guards);
        self.slots.push(Slot {
            handler,
            waker: flag.clone().into(),
            flag,
            exchange: None,
            stream: None,
            holds_permit: false,
        });
        index
    }

    fn drive_woken(&mut self, cx: &mut Context<'_>) {
        // A waker that outlives its request wakes an empty slot. Such slots are taken too; otherwise they would
        // accumulate.
        if self.live == 0 && !self.woken.any() {
            return;
        }
        self.woken.register(cx.waker());
        let mut batch = std::mem::take(&mut self.batch);
        self.woken.take(&mut batch);
        for index in batch.drain(..) {
            self.drive(index);
        }
        self.batch = batch;
    }

    /// Polls one slot, and replies if its handler is done.
    fn drive(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        // A waker may outlive its request and wake an empty slot.
        let Some(exchange) = &slot.exchange else { return };
        slot.flag.clear();
        if slot.stream.is_some() {
            return self.drive_stream(index);
        }
        let mut cx = Context::from_waker(&slot.waker);
        let polled = exchange.poll(&mut *slot.handler, &mut cx, &mut self.scratch);
        let before = std::mem::replace(&mut self.now, Instant::now());
        if self.now > before + LONG_POLL {
            self.report_long_poll(self.now - before);
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Ok(ReplyKind::Stream(items))) => self.begin_stream(index, items),
            Poll::Ready(result) => self.release(index, result),
        }
    }

    /// Logs a long poll, once per handler: it delays every other handler of its thread.
    #[cold]
    fn report_long_poll(&self, took: Duration) {
        if !self.endpoint.counters.reported_long_poll() {
            let handler = self.endpoint.route.entry.route.handler;
            tracing::warn!(
                handler,
                ?took,
                "the handler held up its thread: give CPU-heavy work to `nats_rpc::spawn_blocking`, and wait with `.await`"
            );
        }
    }

    /// Replies for a slot whose handler has ended.
    fn release(&mut self, index: usize, result: Result<ReplyKind, RpcError>) {
        let slot = &mut self.slots[index];
        // The exchange is concluded in place: moving it would cost more than concluding it.
        let Some(exchange) = &mut slot.exchange else { return };
        let counters = &self.endpoint.counters;
        match slot.stream.take() {
            None => self.outbox.conclude(exchange, result, self.now, counters, &mut self.scratch),
            Some(mut stream) => {
                stream.conclude(exchange, result, self.now, counters, &mut self.outbox, &mut self.scratch);
            }
        }
        self.vacate(index);
    }

    /// Frees a slot whose message is concluded.
    fn vacate(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.exchange = None;
        if std::mem::take(&mut slot.holds_permit) {
            self.endpoint.permits.give();
        }
        self.free.push(index);
        self.live -= 1;
    }

    #[inline(always)]
    fn open_exchange(&self, message: &mut Message, arrival: Instant) -> Exchange {
        self.endpoint.counters.began();
        Exchange::open(&self.endpoint.route, self.endpoint.allowance, message, arrival, self.now)
    }

    /// Replies to a message whose handler never starts.
    fn refuse(&mut self, message: &mut Message, arrival: Instant, error: RpcError) {
        let mut exchange = self.open_exchange(message, arrival);
        // Even a malformed message gets a reply in its own dialect.
        let _ = exchange.request(self.endpoint.wire, message);
        self.outbox.conclude(&mut exchange, Err(error), self.now, &self.endpoint.counters, &mut self.scratch);
    }
}

impl Drop for Worker<'_> {
    /// Drops the handlers of a loop that is dropped early, one by one: two handlers that panic in the same drop would
    /// abort the process.
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(exchange) = slot.exchange.take() {
                // There is no caller to notify any more.
                let _ = exchange.cancel(&mut *slot.handler);
                if let Some(mut stream) = slot.stream.take() {
                    let _ = stream.drop_items(&exchange);
                }
            }
            if slot.holds_permit {
                self.endpoint.permits.give();
            }
        }
    }
}

/// Moves a message out of its place.
fn take(message: &mut Message) -> Message {
    let nothing = Message {
        subject: Subject::from_static(""),
        reply: None,
        payload: Bytes::new(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    };
    std::mem::replace(message, nothing)
}
