//! Calls with a stream of items as their reply.

use std::fmt;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Sleep;

use super::Client;
use super::error::CallError;
use super::feed::Taken;
use super::inbox::Seat;
use super::observe::observed;
use crate::deadline::LONGEST;
use crate::decode::from_json;

/// The maximum time between two messages of a service whose stream has begun. The service sends a ping every second.
const SILENCE: Duration = Duration::from_secs(5);

impl Client {
    /// Calls the handler of `subject` and returns its items as they arrive.
    ///
    /// Returns once the service has replied: with its first item, with a notice that the stream has begun, or with an
    /// error. A handler without a stream yields a single item. The service sends at most one [window](Self::window) of
    /// items ahead of the caller. It drops its stream when the caller drops this one.
    ///
    /// ```no_run
    /// # async fn run(client: nats_rpc::Client) -> Result<(), nats_rpc::CallError> {
    /// let mut numbers = client.stream::<u32>("count.to", &3).await?;
    /// while let Some(number) = numbers.next().await {
    ///     println!("{}", number?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`send`](Self::send), until the first item. After it, the stream ends with
    /// - [`CallError::Remote`]: the handler's stream failed, or the service shut down (503);
    /// - [`CallError::TimedOut`]: an item exceeded the [`item_timeout`](Self::item_timeout), or the whole stream
    ///   exceeded the [`stream_timeout`](Self::stream_timeout);
    /// - [`CallError::ConnectionLost`]: the connection to nats-server broke;
    /// - [`CallError::IncompleteResponse`]: items were lost in transit, or the service sent nothing for 5 s;
    /// - [`CallError::Decode`]: an item is not a `T`.
    ///
    /// A stream that ends without an error is complete.
    pub async fn stream<T: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<ResponseStream<T>, CallError> {
        let subject = subject.as_ref();
        observed(subject, false, self.begin(subject, data)).await
    }

    async fn begin<T: DeserializeOwned>(
        &self,
        subject: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<ResponseStream<T>, CallError> {
        let call = self.prepare::<T>(subject, data)?;
        let started = Instant::now();
        let until = self.deadline(started, self.stream_timeout);
        let terms = Terms { started, until, item: self.item_timeout };
        let opened = || async {
            let mut receiver = self.open(&self.streams, &call, terms).await?;
            poll_fn(|cx| receiver.poll_opened(cx)).await?;
            Ok(receiver)
        };
        let receiver = self.persist(&call, started, until, opened).await?;
        Ok(ResponseStream { receiver, item: PhantomData })
    }
}

/// The items of a call, as a [`Stream`]; see [`Client::stream`].
///
/// It ends after its first error. Dropping it ends the stream at the service as well.
#[must_use = "a stream that is dropped is cancelled"]
pub struct ResponseStream<T> {
    receiver: Receiver,
    item: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> ResponseStream<T> {
    /// Returns the next item; `None` once the stream is complete, or after it has ended with an error.
    pub async fn next(&mut self) -> Option<Result<T, CallError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<T: DeserializeOwned> Stream for ResponseStream<T> {
    type Item = Result<T, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(item) = ready!(self.receiver.poll_next(cx)) else { return Poll::Ready(None) };
        let item = item.and_then(|bytes| from_json(&bytes).map_err(CallError::Decode));
        if item.is_err() {
            self.receiver.close();
        }
        Poll::Ready(Some(item))
    }
}

impl<T> fmt::Debug for ResponseStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseStream").field("subject", self.receiver.seat.feed().subject()).finish_non_exhaustive()
    }
}

/// The time limits of a call with several replies.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub(super) started: Instant,
    /// The overall deadline.
    pub(super) until: Instant,
    /// The limit between two items.
    pub(super) item: Duration,
}

/// The caller's end of a feed, with its timers.
pub(super) struct Receiver {
    seat: Seat,
    terms: Terms,
    /// The start of the wait for the next item.
    waiting: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    closed: bool,
}

impl Receiver {
    pub(super) fn new(seat: Seat, terms: Terms) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(terms.until.into()));
        Self { seat, terms, waiting: None, timer, closed: false }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(super) fn broken(&self, why: &str) -> CallError {
        CallError::IncompleteResponse { subject: self.seat.feed().subject().to_string(), why: why.to_owned() }
    }

    /// Ready once the service has replied.
    pub(super) fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        if let Some(opened) = self.seat.feed().opened(cx) {
            return Poll::Ready(opened);
        }
        Poll::Ready(Err(ready!(self.poll_late(cx, None))))
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        if self.closed {
            return Poll::Ready(None);
        }
        match self.seat.feed().take(cx) {
            Taken::Item { value, say } => {
                self.waiting = None;
                self.seat.say(say);
                Poll::Ready(Some(Ok(value)))
            }
            Taken::End(end) => {
                self.close();
                Poll::Ready(end.err().map(Err))
            }
            Taken::Nothing { heard } => {
                let late = ready!(self.poll_late(cx, heard));
                self.close();
                Poll::Ready(Some(Err(late)))
            }
        }
    }

    /// Ready when the wait for the next item exceeds its limit.
    fn poll_late(&mut self, cx: &mut Context<'_>, heard: Option<Instant>) -> Poll<CallError> {
        let Terms { started, until, item } = self.terms;
        let waiting = *self.waiting.get_or_insert_with(Instant::now);
        let next = waiting + item.min(LONGEST);
        let silent = heard.map(|heard| heard + SILENCE);
        let first = silent.into_iter().fold(until.min(next), Instant::min);
        self.timer.as_mut().reset(first.into());
        ready!(self.timer.as_mut().poll(cx));
        let subject = self.seat.feed().subject().to_string();
        if let Some(captured) = self.seat.captured() {
            return Poll::Ready(captured);
        }
        Poll::Ready(match () {
            () if first == until => CallError::TimedOut { subject, after: until.duration_since(started), sent: true },
            () if first == next => CallError::TimedOut { subject, after: item, sent: true },
            () => self.broken(&format!("nothing was heard of the service for {SILENCE:?}")),
        })
    }

    /// Ends the call from this side and cancels the service's stream.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.seat.leave();
    }
}
