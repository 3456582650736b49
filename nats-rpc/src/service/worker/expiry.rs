//! The end of requests without their handlers: at their deadlines, or when shutdown has reached its limit.

use std::future::Future;
use std::task::Context;
use std::time::Instant;

use super::{TICK, Worker};
use crate::deadline;
use crate::error::RpcError;
use crate::message::Preface;

impl Worker<'_> {
    /// Ends the requests past their deadline, running or waiting.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>) {
        while self.ticking && self.tick.as_mut().poll(cx).is_ready() {
            self.now = Instant::now();
            let now = self.now;
            self.ticking = self.live > 0 || !self.backlog.is_empty();
            self.tick.as_mut().reset(tokio::time::Instant::from_std(now + TICK));
            for index in 0..self.slots.len() {
                let slot = &self.slots[index];
                let late = slot.exchange.as_ref().is_some_and(|exchange| exchange.deadline <= now);
                // Only the deadline is certain to end a stream.
                if late && (slot.stream.is_some() || !self.endpoint.route.entry.route.run_to_completion) {
                    self.cancel(index, RpcError::deadline_exceeded("the handler did not finish by the deadline"));
                } else if slot.stream.is_some() {
                    self.tend_stream(index);
                }
            }
            self.expire_backlog();
        }
    }

    fn expire_backlog(&mut self) {
        let (now, allowance) = (self.now, self.endpoint.allowance);
        for _ in 0..self.backlog.len() {
            let Some((mut message, arrival)) = self.backlog.pop_front() else { return };
            if deadline::of_request(&Preface::of(message.headers.as_ref()), arrival, now, allowance) <= now {
                let error = RpcError::deadline_exceeded("the deadline passed while the request waited");
                self.refuse(&mut message, arrival, error);
            } else {
                self.backlog.push_back((message, arrival));
            }
        }
    }

    /// Rejects all running and waiting requests: shutdown has reached its limit.
    pub(in crate::service) fn abandon(&mut self) {
        self.now = Instant::now();
        let error = || RpcError::unavailable("the service stopped before the handler finished");
        for index in 0..self.slots.len() {
            self.cancel(index, error());
        }
        while let Some((mut message, arrival)) = self.backlog.pop_front() {
            self.refuse(&mut message, arrival, error());
        }
    }

    /// Cancels the handler in a slot and replies instead of it.
    pub(super) fn cancel(&mut self, index: usize, error: RpcError) {
        let slot = &mut self.slots[index];
        let Some(exchange) = &slot.exchange else { return };
        let dropped = match &mut slot.stream {
            Some(stream) => stream.drop_items(exchange),
            None => exchange.cancel(&mut *slot.handler),
        };
        self.release(index, dropped.and(Err(error)));
    }
}
