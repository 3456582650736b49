//! Answers on their way to the connection.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_nats::message::OutboundMessage;
use async_nats::subject::ToSubject;
use async_nats::{HeaderMap, Subject};
use futures::Sink;

use super::arena::cut;
use super::exchange::{Answer, Exchange};
use super::stats::Counters;
use crate::error::RpcError;
use crate::reply::ReplyKind;

/// A buffer that one large answer made larger than this, in bytes, is given back.
const SCRATCH_KEPT: usize = 64 * 1024;

/// Answers that the connection has not taken yet.
///
/// The connection takes commands through a bounded channel that blocks while nats-server is away. A
/// loop that waited there could not poll its handlers, so what is not taken waits here.
pub(super) struct Outbox {
    nats: async_nats::Client,
    waiting: VecDeque<OutboundMessage>,
    /// Whether the client was found dead.
    dead: bool,
    /// The text of the subject that is being handed over.
    subject: String,
}

/// The subject of an answer, which moves on as it came.
///
/// A subject that async-nats received is copied in full by the first clone of it, and `publish` clones.
struct Received<'a> {
    subject: Cell<Option<Subject>>,
    text: &'a str,
}

impl ToSubject for Received<'_> {
    fn to_subject(&self) -> Subject {
        self.subject.take().unwrap_or_else(|| self.text.into())
    }
}

impl Outbox {
    /// How many answers may wait before their loop takes no further message.
    const CAPACITY: usize = 1_024;

    pub(super) fn new(nats: async_nats::Client) -> Self {
        Self { nats, waiting: VecDeque::new(), dead: false, subject: String::new() }
    }

    /// Goes on with another client: the old one has died.
    pub(super) fn renew(&mut self, nats: async_nats::Client) {
        self.nats = nats;
        self.dead = false;
    }

    /// Concludes `exchange`: exactly one answer leaves, or none if none was asked for.
    ///
    /// The value of the answer stands in `scratch`.
    pub(super) fn conclude(
        &mut self,
        exchange: &mut Exchange,
        result: Result<ReplyKind, RpcError>,
        now: Instant,
        counters: &Counters,
        scratch: &mut Vec<u8>,
    ) {
        let answer = exchange.conclude(result, now, self.nats.max_payload(), counters, scratch);
        if let (Some(Answer { headers, .. }), Some(subject)) = (answer, exchange.reply.take()) {
            self.answer(subject, headers, scratch);
        }
        give_back(scratch);
    }

    /// Hands an answer over, or keeps it until [`poll_flush`](Self::poll_flush) can.
    fn answer(&mut self, subject: Subject, headers: Option<HeaderMap>, body: &[u8]) {
        match headers {
            None if self.waiting.is_empty() => self.publish(subject, body),
            headers => self.keep(subject, headers, body),
        }
    }

    /// `publish` costs less than the reservation that [`Sink`] makes for each message, but it does not give
    /// back what is not taken at once. So the text of the subject is written down, to make it again.
    fn publish(&mut self, subject: Subject, body: &[u8]) {
        self.subject.clear();
        self.subject.push_str(&subject);
        let payload = cut(body);
        let subject = Received { subject: Cell::new(Some(subject)), text: &self.subject };
        // Nobody is to be woken: whatever is kept is polled for before the loop rests.
        let handed_over = pin!(self.nats.publish(subject, payload)).poll(&mut Context::from_waker(Waker::noop()));
        if !matches!(handed_over, Poll::Ready(Ok(()))) {
            let subject = Subject::from(self.subject.as_str());
            self.keep(subject, None, body);
        }
    }

    fn keep(&mut self, subject: Subject, headers: Option<HeaderMap>, body: &[u8]) {
        let payload = cut(body);
        self.waiting.push_back(OutboundMessage { subject, reply: None, payload, headers });
    }

    /// Hands a message over, or keeps it likewise.
    pub(super) fn push(&mut self, message: OutboundMessage) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.waiting.is_empty() && matches!(Pin::new(&mut self.nats).poll_ready(&mut cx), Poll::Ready(Ok(()))) {
            self.send(message);
        } else {
            self.waiting.push_back(message);
        }
    }

    /// The largest message that the server takes, in bytes, headers included.
    pub(super) fn max_payload(&self) -> usize {
        self.nats.max_payload()
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

    /// Hands over what the connection takes now, and asks to be polled when it takes more.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) {
        // Asked with each message, when hardly ever anything waits.
        if !self.waiting.is_empty() {
            self.flush(cx);
        }
    }

    #[cold]
    fn flush(&mut self, cx: &mut Context<'_>) {
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

/// Gives a buffer back that one large answer made larger than is kept.
pub(super) fn give_back(scratch: &mut Vec<u8>) {
    if scratch.capacity() > SCRATCH_KEPT {
        *scratch = Vec::new();
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

    fn flush(outbox: &mut Outbox) {
        outbox.poll_flush(&mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn what_a_connection_does_not_take_waits_until_the_loop_has_to() {
        let (nats, _runtime) = client();
        let mut outbox = Outbox::new(nats);
        outbox.answer("a".into(), None, b"");
        assert!(outbox.is_empty(), "a connection takes commands ahead");
        while !outbox.is_full() {
            outbox.answer("a".into(), None, b"");
        }
        flush(&mut outbox);
        assert!(outbox.is_full() && !outbox.is_stranded());
    }

    #[test]
    fn a_loop_never_waits_for_a_client_that_has_died() {
        let (nats, runtime) = client();
        let mut outbox = Outbox::new(nats);
        while !outbox.is_full() {
            outbox.answer("a".into(), None, b"");
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
