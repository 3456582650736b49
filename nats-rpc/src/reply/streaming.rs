use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use serde::Serialize;

use super::{IntoReply, ReplyKind};
use crate::error::{IntoRpcError, RpcError};
use crate::validity::Validity;

/// A reply of many items, each sent as soon as it is available; NestJS's `Observable`.
///
/// Return it if a reply would be too large for one message, or if its parts become available one by one. The service
/// polls the stream only while its caller accepts items, and drops it at once when its caller disconnects.
///
/// ```
/// use futures::{Stream, stream};
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("count.to")]
/// async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
///     Streaming::new(stream::iter((1..=last).map(Ok)))
/// }
///
/// /// Also in a `Result`, for what can be refused before the first item.
/// #[message_pattern("count.down")]
/// async fn count_down(
///     Payload(first): Payload<u32>,
/// ) -> Result<Streaming<impl Stream<Item = Result<u32, RpcError>>>, RpcError> {
///     if first > 1_000 {
///         return Err(RpcError::invalid_argument("from 1,000 at most"));
///     }
///     Ok(Streaming::new(stream::iter((0..=first).rev().map(Ok))))
/// }
/// ```
///
/// Callers use [`Client::stream`](crate::Client::stream); for [`send`](crate::Client::send) the service replies 400.
/// An item that is an error, or too large for a message (413), is the last one.
///
/// The handler's own timeout (`timeout_ms = …`, else [`Limits::timeout`](crate::Limits::timeout)) applies to the whole
/// stream, and [`Limits::stream_idle_timeout`](crate::Limits::stream_idle_timeout) to each item; a late stream ends
/// with 504. A stream behind a guard ends when the guard's proof [ends](crate::Validity): with 401 within a second
/// after its token was revoked or has expired. Until it ends, a stream occupies one of the handler's `concurrency`
/// places.
#[must_use = "a stream does nothing until a handler returns it"]
pub struct Streaming<S>(S);

impl<S> Streaming<S> {
    /// Creates a reply with the items of `stream`.
    pub fn new(stream: S) -> Self {
        Self(stream)
    }
}

impl<S> fmt::Debug for Streaming<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}

impl<S> IntoReply for Streaming<S>
where
    S: Stream + Send + 'static,
    S::Item: StreamItem,
{
    fn write(self, _: &mut Vec<u8>) -> Result<ReplyKind, RpcError> {
        Ok(ReplyKind::Stream(BoxReplyStream(Box::new(Bound { source: Box::new(Box::pin(self.0)), validity: None }))))
    }
}

/// One item of a [`Streaming`]: a `Result` of a serialisable type.
#[doc(hidden)]
pub trait StreamItem {
    /// Appends the item's JSON to `out`.
    fn write(self, out: &mut Vec<u8>) -> Result<(), RpcError>;
}

impl<T: Serialize, E: IntoRpcError> StreamItem for Result<T, E> {
    fn write(self, out: &mut Vec<u8>) -> Result<(), RpcError> {
        let item = self.map_err(IntoRpcError::into_rpc_error)?;
        serde_json::to_writer(out, &item).map_err(RpcError::internal)
    }
}

/// The items of a handler's stream, with their type erased.
///
/// It has a box of its own, so that it does not enlarge a reply without a stream.
pub struct BoxReplyStream(Box<Bound>);

struct Bound {
    source: Box<dyn Source>,
    /// The validity of the proof about the caller, if it can end.
    validity: Option<Arc<dyn Validity>>,
}

impl BoxReplyStream {
    /// Makes the stream end once `validity` no longer holds.
    pub(super) fn bound_by(&mut self, validity: Option<Arc<dyn Validity>>) {
        self.0.validity = validity;
    }

    /// Checks that the caller may still receive items.
    ///
    /// # Errors
    /// The error that the stream ends with.
    pub(crate) fn check_validity(&self) -> Result<(), RpcError> {
        self.0.validity.as_ref().map_or(Ok(()), |validity| validity.check())
    }

    /// Polls for the next item, and appends its JSON to `out`.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Option<Result<(), RpcError>>> {
        self.0.source.poll_next(cx, out)
    }
}

impl fmt::Debug for BoxReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxReplyStream").finish_non_exhaustive()
    }
}

trait Source: Send {
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Option<Result<(), RpcError>>>;
}

impl<S> Source for Pin<Box<S>>
where
    S: Stream + Send,
    S::Item: StreamItem,
{
    fn poll_next(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Option<Result<(), RpcError>>> {
        let item = ready!(self.as_mut().poll_next(cx));
        Poll::Ready(item.map(|item| item.write(out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_no_larger_for_those_that_are_streams() {
        assert_eq!(size_of::<Result<ReplyKind, RpcError>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn items_are_written_one_by_one_and_an_error_in_their_midst() {
        let items = [Ok(1), Err(RpcError::not_found("no 2")), Ok(3)];
        let written = Streaming::new(futures::stream::iter(items)).write(&mut Vec::new()).unwrap();
        let ReplyKind::Stream(mut items) = written else { panic!("it is a stream") };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut out = b"[".to_vec();
        assert!(matches!(items.poll_next(&mut cx, &mut out), Poll::Ready(Some(Ok(())))));
        assert_eq!(out, b"[1");
        let Poll::Ready(Some(Err(error))) = items.poll_next(&mut cx, &mut out) else { panic!("an error") };
        assert_eq!(error.code(), crate::Code::NotFound);
    }
}
