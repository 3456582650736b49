//! The server side of a stream: sends a handler's items to its caller.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, HeaderValue, Subject};
use bytes::Bytes;

use super::arena::cut;
use super::credit::Lease;
use super::exchange::{Answer, Exchange};
use super::outbox::{self, Outbox};
use super::stats::Counters;
use crate::error::RpcError;
use crate::reply::{BoxReplyStream, ReplyKind};
use crate::wire::stream::{Frame, write_instance};

/// The time without a message after which the caller is sent a `ping`.
const PING_EVERY: Duration = Duration::from_secs(1);
/// The number of pings that a caller may leave without a reply: a wildcard subscriber prevents nats-server from
/// reporting that the caller itself has gone.
const MOST_UNHEARD: u32 = 10;
/// Reserved space for the headers of an item, in bytes.
const FRAME_ALLOWANCE: usize = 96;
/// The interval at which the authentication of a stream's caller is checked.
pub(crate) const VALIDITY_EVERY: Duration = Duration::from_millis(500);

/// Returns an error if an item whose message has `bytes` is too large to send.
pub(crate) fn too_large(bytes: usize, max_payload: usize) -> Option<RpcError> {
    (bytes + FRAME_ALLOWANCE > max_payload).then(|| {
        RpcError::payload_too_large(format!(
            "an item of {bytes} bytes is too large: nats-server takes {max_payload}, and {FRAME_ALLOWANCE} are for \
             its headers"
        ))
    })
}

/// An open stream.
pub(super) struct Streamed {
    /// The handler's stream; `None` once it has ended.
    items: Option<BoxReplyStream>,
    native: bool,
    lease: Lease,
    /// The id of the service instance.
    instance: HeaderValue,
    address: Subject,
    /// The number of items sent.
    sent: u64,
    held: Held,
    idle: Duration,
    /// The time of the last item, or of the stream's beginning before the first.
    last_item: Instant,
    /// The time of the last message to the caller.
    last_sent: Instant,
    /// The time of the last check of the caller's authentication.
    checked: Instant,
    /// Is `true` once the caller has received the address of the stream.
    opened: bool,
    unheard: u32,
}

/// In the nest dialect, an item that is held back until it is known whether it is the last, which NestJS marks.
#[derive(Default)]
struct Held {
    item: Option<Vec<u8>>,
    then: Option<RpcError>,
    spare: Vec<u8>,
}

/// The next action of a stream.
pub(super) enum Step {
    /// The stream waits.
    Wait,
    /// The buffer contains an item.
    Item,
    /// The stream has ended; the buffer may contain a last value.
    Ended(Result<ReplyKind, RpcError>),
    /// The caller has gone.
    Gone,
}

impl Streamed {
    pub(super) fn new(
        items: BoxReplyStream,
        native: bool,
        lease: Lease,
        instance: HeaderValue,
        idle: Duration,
        now: Instant,
    ) -> Self {
        Self {
            items: Some(items),
            native,
            instance,
            address: lease.address().into(),
            lease,
            sent: 0,
            held: Held::default(),
            idle,
            last_item: now,
            last_sent: now,
            checked: now,
            opened: false,
            unheard: 0,
        }
    }

    /// Polls the handler for an item if the caller accepts one.
    pub(super) fn poll(
        &mut self,
        exchange: &Exchange,
        max_payload: usize,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Step {
        if self.lease.is_gone() {
            return match self.drop_items(exchange) {
                Ok(()) => Step::Gone,
                Err(error) => Step::Ended(Err(error)),
            };
        }
        // Nothing is sent until the caller can reply to it.
        if !self.lease.is_heard() || !self.lease.covers(self.sent + 1) {
            return Step::Wait;
        }
        let step = match self.native {
            true => self.poll_native(exchange, cx, out),
            false => self.poll_nest(exchange, cx, out),
        };
        match step {
            Step::Item => match too_large(out.len(), max_payload) {
                Some(error) => Step::Ended(self.drop_items(exchange).and(Err(error))),
                None => Step::Item,
            },
            Step::Ended(result) => Step::Ended(self.drop_items(exchange).and(result)),
            step => step,
        }
    }

    fn poll_native(&mut self, exchange: &Exchange, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Step {
        match self.next_item(exchange, cx, out) {
            Poll::Pending => Step::Wait,
            Poll::Ready(Some(Ok(()))) => Step::Item,
            Poll::Ready(Some(Err(error))) => Step::Ended(Err(error)),
            Poll::Ready(None) => Step::Ended(Ok(ReplyKind::Nothing)),
        }
    }

    fn poll_nest(&mut self, exchange: &Exchange, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Step {
        if let Some(error) = self.held.then.take() {
            return Step::Ended(Err(error));
        }
        loop {
            let polled = self.next_item(exchange, cx, out);
            match (polled, self.held.item.take()) {
                (Poll::Pending, None) => return Step::Wait,
                (Poll::Ready(None), None) => return Step::Ended(Ok(ReplyKind::Nothing)),
                (Poll::Ready(Some(Err(error))), None) => return Step::Ended(Err(error)),
                (Poll::Ready(Some(Ok(()))), None) => {
                    let spare = std::mem::take(&mut self.held.spare);
                    self.held.item = Some(std::mem::replace(out, spare));
                }
                (Poll::Ready(None), Some(mut last)) => {
                    std::mem::swap(out, &mut last);
                    return Step::Ended(Ok(ReplyKind::Value));
                }
                (polled, Some(mut item)) => {
                    std::mem::swap(out, &mut item);
                    match polled {
                        Poll::Ready(Some(Ok(()))) => self.held.item = Some(item),
                        Poll::Ready(Some(Err(error))) => self.held.then = Some(error),
                        _ => self.held.spare = item,
                    }
                    exchange.finish_item(out);
                    return Step::Item;
                }
            }
        }
    }

    fn next_item(
        &mut self,
        exchange: &Exchange,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Option<Result<(), RpcError>>> {
        let Some(items) = &mut self.items else { return Poll::Ready(None) };
        exchange.begin(out);
        let polled = exchange.contained(|| items.poll_next(cx, out));
        polled.unwrap_or_else(|| Poll::Ready(Some(Err(RpcError::internal("the handler's stream panicked")))))
    }

    /// Drops the handler's stream in its slot.
    ///
    /// # Errors
    /// 500 if a value in the stream panics while it is dropped.
    pub(super) fn drop_items(&mut self, exchange: &Exchange) -> Result<(), RpcError> {
        let items = self.items.take();
        let dropped = exchange.contained(|| drop(items));
        dropped.ok_or_else(|| RpcError::internal("the handler's stream panicked while it was dropped"))
    }

    /// Builds the message of an item.
    pub(super) fn item(&mut self, exchange: &Exchange, payload: Bytes, now: Instant) -> Option<OutboundMessage> {
        self.sent += 1;
        self.lease.sent(self.sent);
        self.last_item = now;
        let headers = self.native.then(|| Frame::Item(self.sent).headers());
        self.message(exchange, payload, headers, now)
    }

    /// Sends the last message; `scratch` may contain a last value.
    pub(super) fn conclude(
        &mut self,
        exchange: &Exchange,
        result: Result<ReplyKind, RpcError>,
        now: Instant,
        counters: &Counters,
        outbox: &mut Outbox,
        scratch: &mut Vec<u8>,
    ) {
        if matches!(result, Ok(ReplyKind::Nothing)) {
            scratch.clear();
        }
        let answer = exchange.conclude(result, now, outbox.max_payload(), counters, scratch);
        if let Some(Answer { headers, .. }) = answer {
            let payload = cut(scratch);
            let headers = match (self.native, headers) {
                (true, None) => Some(Frame::End(self.sent + 1).headers()),
                (true, Some(mut headers)) => {
                    Frame::Error(self.sent + 1).write(&mut headers);
                    Some(headers)
                }
                (false, headers) => headers,
            };
            if let Some(message) = self.message(exchange, payload, headers, now) {
                outbox.push(message);
            }
        }
        outbox::give_back(scratch);
    }

    /// Builds a message that probes whether the caller still exists. NestJS's client treats it as a reply to another
    /// request and ignores it; nats-server reports if the caller has left.
    pub(super) fn ping(&mut self, exchange: &Exchange, now: Instant) -> Option<OutboundMessage> {
        if self.native {
            self.unheard = if self.lease.take_heard() { 0 } else { self.unheard + 1 };
            let headers = Some(Frame::Ping(self.sent).headers());
            return self.message(exchange, Bytes::new(), headers, now);
        }
        let foreign = format!(r#"{{"id":"{}"}}"#, self.address);
        self.message(exchange, foreign.into(), None, now)
    }

    fn message(
        &mut self,
        exchange: &Exchange,
        payload: Bytes,
        headers: Option<HeaderMap>,
        now: Instant,
    ) -> Option<OutboundMessage> {
        self.last_sent = now;
        self.opened = true;
        let subject = exchange.reply.clone()?;
        let mut headers = headers.unwrap_or_default();
        write_instance(&mut headers, &self.instance);
        Some(OutboundMessage { subject, reply: Some(self.address.clone()), payload, headers: Some(headers) })
    }

    /// Returns `true` if the caller has to be notified that the stream has begun, though there is no item yet: a
    /// caller can only cancel a stream whose address it knows.
    pub(super) fn is_unopened(&self) -> bool {
        self.native && !self.opened && self.lease.is_heard()
    }

    pub(super) fn wants_to_ping(&self, now: Instant) -> bool {
        self.lease.is_heard() && now.duration_since(self.last_sent) >= PING_EVERY
    }

    /// Returns the error that ends the stream if the caller has been silent for so long that it must have gone. The
    /// error is sent nevertheless: the caller may exist and violate the protocol.
    pub(super) fn is_unheard(&self) -> Option<RpcError> {
        (self.unheard > MOST_UNHEARD).then(|| {
            RpcError::deadline_exceeded("the caller has replied to no `ping` of the stream for too long: send `credit`")
        })
    }

    /// Returns the error that ends the stream if the caller's authentication is no longer valid.
    pub(super) fn is_invalid(&mut self, exchange: &Exchange, now: Instant) -> Option<RpcError> {
        if now.duration_since(self.checked) < VALIDITY_EVERY {
            return None;
        }
        self.checked = now;
        self.items.as_ref().and_then(|items| exchange.check_validity(items).err())
    }

    /// Returns the error that ends the stream if no item has been sent for too long.
    pub(super) fn is_idle(&self, now: Instant) -> Option<RpcError> {
        (now.duration_since(self.last_item) >= self.idle).then(|| {
            RpcError::deadline_exceeded(match self.lease.covers(self.sent + 1) {
                true => "the handler's stream has had no item for too long",
                false => "the caller has taken no item for too long",
            })
        })
    }
}
