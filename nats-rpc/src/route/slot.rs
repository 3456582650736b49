//! A reusable place for a handler's future.
//!
//! The type of the future is erased here, at a place that its endpoint's loop owns and uses again and
//! again, so that a request allocates nothing for its future and the loop is compiled once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::RpcError;
use crate::message::Request;
use crate::reply::{IntoReply, ReplyKind};

/// A place that one request at a time runs in.
pub(crate) trait HandlerSlot: Send {
    /// Puts `request` in; the slot is empty before.
    fn start(&mut self, request: Request);

    /// Drives the handler on. Once ready, the answer's JSON stands at the end of `out` and the slot is empty.
    ///
    /// # Errors
    /// What a guard, an argument or the handler answered.
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<ReplyKind, RpcError>>;

    /// Drops the handler where it stands.
    fn cancel(&mut self);
}

/// The slot of one endpoint: `start` makes the future that `future` holds.
pub(super) struct SlotOf<S, F> {
    start: S,
    future: Pin<Box<Option<F>>>,
}

impl<S, F> SlotOf<S, F> {
    pub(super) fn new(start: S) -> Self
    where
        S: Fn(Request) -> F,
    {
        Self { start, future: Box::pin(None) }
    }
}

impl<S, F, R> HandlerSlot for SlotOf<S, F>
where
    S: Fn(Request) -> F + Send,
    F: Future<Output = Result<R, RpcError>> + Send,
    R: IntoReply,
{
    fn start(&mut self, request: Request) {
        self.future.set(Some((self.start)(request)));
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<ReplyKind, RpcError>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let answer = ready!(future.poll(cx));
        self.future.set(None);
        Poll::Ready(answer.and_then(|reply| reply.write(out)))
    }

    fn cancel(&mut self) {
        self.future.set(None);
    }
}
