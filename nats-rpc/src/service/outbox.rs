//! Answers on their way to the connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use async_nats::message::OutboundMessage;
use futures::Sink;

/// Answers that the connection has not taken yet.
///
/// The connection takes commands through a bounded channel that blocks while nats-server is away. A
/// loop that waited there could not poll its handlers, so what is not taken waits here.
pub(super) struct Outbox {
    nats: async_nats::Client,
    waiting: VecDeque<OutboundMessage>,
}

impl Outbox {
    /// How many answers may wait before their loop takes no further message.
    const CAPACITY: usize = 1_024;

    pub(super) fn new(nats: async_nats::Client) -> Self {
        Self { nats, waiting: VecDeque::new() }
    }

    /// Goes on with another client: the old one has died.
    pub(super) fn renew(&mut self, nats: async_nats::Client) {
        self.nats = nats;
    }

    /// Hands `message` over, or keeps it until [`poll_flush`](Self::poll_flush) can.
    pub(super) fn push(&mut self, message: OutboundMessage) {
        // Nobody is to be woken: whatever is kept here is polled for before the loop rests.
        let mut cx = Context::from_waker(Waker::noop());
        if self.waiting.is_empty() && matches!(Pin::new(&mut self.nats).poll_ready(&mut cx), Poll::Ready(Ok(()))) {
            self.send(message);
        } else {
            self.waiting.push_back(message);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= Self::CAPACITY
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The largest message that the server takes, in bytes, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.nats.max_payload()
    }

    /// Hands over what the connection takes now, and asks to be polled when it takes more.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            match Pin::new(&mut self.nats).poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {
                    let Some(message) = self.waiting.pop_front() else { return };
                    self.send(message);
                }
                // The client has died. What waits here goes out through the next one.
                Poll::Ready(Err(_)) => return,
            }
        }
    }

    fn send(&mut self, message: OutboundMessage) {
        if let Err(error) = Pin::new(&mut self.nats).start_send(message) {
            tracing::error!(%error, "an answer could not be sent");
        }
    }
}
