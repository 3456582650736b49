//! The streams of a loop: polling, pings, and their end.

use std::task::Context;
use std::time::Instant;

use super::{LONG_POLL, Slot, Worker};
use crate::error::RpcError;
use crate::reply::BoxReplyStream;
use crate::service::arena::cut;
use crate::service::stream::{Step, Streamed};

/// The number of items of one stream that are sent before other streams get a turn.
const BURST: usize = 32;

impl Worker<'_> {
    /// Begins the stream that the handler in a slot replied with.
    #[cold]
    pub(super) fn begin_stream(&mut self, index: usize, items: BoxReplyStream) {
        let slot = &mut self.slots[index];
        let Some(exchange) = &slot.exchange else { return };
        // The handler may have taken long, so the caller's authentication is checked again.
        let window = match exchange.window().and_then(|window| exchange.check_validity(&items).map(|()| window)) {
            Ok(window) => window,
            Err(error) => {
                let dropped = exchange.contained(|| drop(items));
                let dropped = dropped.ok_or_else(|| RpcError::internal("the handler's stream panicked"));
                return self.release(index, dropped.and(Err(error)));
            }
        };
        let lease = self.endpoint.credits.lease(window, slot.waker.clone());
        let instance = self.endpoint.credits.instance().clone();
        let stream =
            Streamed::new(items, exchange.is_native(), lease, instance, self.endpoint.stream_idle_timeout, self.now);
        slot.stream = Some(Box::new(stream));
        self.drive_stream(index);
    }

    /// Sends the available items of the stream in a slot, as far as the caller accepts them.
    #[cold]
    pub(super) fn drive_stream(&mut self, index: usize) {
        for _ in 0..BURST {
            if !self.outbox.is_empty() {
                // The connection accepts nothing; the stream waits instead of filling memory.
                self.stalled.push(index);
                return;
            }
            let max_payload = self.outbox.max_payload();
            let slot = &mut self.slots[index];
            let (Some(exchange), Some(stream)) = (&slot.exchange, &mut slot.stream) else { return };
            let mut cx = Context::from_waker(&slot.waker);
            let step = stream.poll(exchange, max_payload, &mut cx, &mut self.scratch);
            let before = std::mem::replace(&mut self.now, Instant::now());
            if self.now > before + LONG_POLL {
                self.report_long_poll(self.now - before);
            }
            match step {
                Step::Wait => return self.ping(index, Streamed::is_unopened),
                Step::Item => self.send_item(index),
                Step::Ended(result) => return self.release(index, result),
                Step::Gone => return self.forget(index),
            }
        }
        self.slots[index].waker.wake_by_ref();
    }

    fn send_item(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let (Some(exchange), Some(stream)) = (&slot.exchange, &mut slot.stream) else { return };
        let payload = cut(&self.scratch);
        if let Some(message) = stream.item(exchange, payload, self.now) {
            self.outbox.push(message);
        }
    }

    /// Sends a ping to the caller of a stream if it is `due`.
    fn ping(&mut self, index: usize, due: impl FnOnce(&Streamed) -> bool) {
        let slot = &mut self.slots[index];
        let (Some(exchange), Some(stream)) = (&slot.exchange, &mut slot.stream) else { return };
        if due(stream)
            && let Some(message) = stream.ping(exchange, self.now)
        {
            self.outbox.push(message);
        }
    }

    /// Maintains a stream at each tick: pings its caller, and ends the stream if it makes no progress or the caller's
    /// authentication has ended.
    pub(super) fn tend_stream(&mut self, index: usize) {
        let now = self.now;
        let Slot { exchange: Some(exchange), stream: Some(stream), .. } = &mut self.slots[index] else { return };
        let idle = stream.is_unheard().or_else(|| stream.is_idle(now));
        if let Some(error) = idle.or_else(|| stream.is_invalid(exchange, now)) {
            self.cancel(index, error);
        } else {
            self.ping(index, |stream| stream.wants_to_ping(now));
        }
    }

    /// Resumes the streams that waited for the connection.
    pub(super) fn wake_stalled(&mut self) {
        for index in self.stalled.drain(..) {
            self.slots[index].waker.wake_by_ref();
        }
    }

    /// Ends a stream whose caller has gone.
    fn forget(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let (Some(exchange), Some(mut stream)) = (&slot.exchange, slot.stream.take()) else { return };
        // If it panics, the panic hook prints the message; there is no caller to notify.
        let _ = stream.drop_items(exchange);
        exchange.forget(self.now, &self.endpoint.counters);
        self.vacate(index);
    }
}
