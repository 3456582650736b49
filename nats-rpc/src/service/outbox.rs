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
    /// Whether the client was found dead.
    dead: bool,
}

impl Outbox {
    /// How many answers may wait before their loop takes no further message.
    const CAPACITY: usize = 1_024;

    pub(super) fn new(nats: async_nats::Client) -> Self {
        Self { nats, waiting: VecDeque::new(), dead: false }
    }

    /// Goes on with another client: the old one has died.
    pub(super) fn renew(&mut self, nats: async_nats::Client) {
        self.nats = nats;
        self.dead = false;
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

    /// Whether its loop has to wait. Not for a client that has died: only its loop can learn of the next one.
    pub(super) fn is_full(&self) -> bool {
        !self.dead && self.waiting.len() >= Self::CAPACITY
    }

    /// Whether answers wait for another client, as this one has died.
    pub(super) fn is_stranded(&self) -> bool {
        self.dead && !self.waiting.is_empty()
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
                Poll::Ready(Err(_)) => {
                    // What waits here goes out through the next one.
                    self.dead = true;
                    return;
                }
            }
        }
    }

    fn send(&mut self, message: OutboundMessage) {
        if let Err(error) = Pin::new(&mut self.nats).start_send(message) {
            tracing::error!(%error, "an answer could not be sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that takes commands for a server that is not there, and the runtime that it lives in.
    fn client() -> (async_nats::Client, tokio::runtime::Runtime) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let nats = runtime.block_on(options.connect("nats://127.0.0.1:1")).unwrap();
        (nats, runtime)
    }

    fn message() -> OutboundMessage {
        OutboundMessage { subject: "a".into(), reply: None, payload: "".into(), headers: None }
    }

    fn flush(outbox: &mut Outbox) {
        outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn what_a_connection_does_not_take_waits_until_the_loop_has_to() {
        let (nats, _runtime) = client();
        let mut outbox = Outbox::new(nats);
        outbox.push(message());
        assert!(outbox.is_empty(), "a connection takes commands ahead");
        while !outbox.is_full() {
            outbox.push(message());
        }
        flush(&mut outbox);
        assert!(outbox.is_full() && !outbox.is_stranded());
    }

    #[test]
    fn a_loop_never_waits_for_a_client_that_has_died() {
        let (nats, runtime) = client();
        let mut outbox = Outbox::new(nats);
        while !outbox.is_full() {
            outbox.push(message());
        }
        drop(runtime);
        flush(&mut outbox);
        assert!(!outbox.is_full() && outbox.is_stranded());
        let (nats, _runtime) = client();
        outbox.renew(nats);
        flush(&mut outbox);
        assert!(outbox.is_empty() && !outbox.is_stranded());
    }
}
