//! A reusable slot for a handler's future.
//!
//! The slot erases the type of the future. The loop of the endpoint owns the slot and reuses it, so a request needs no
//! allocation for its future, and the loop is compiled once.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::error::RpcError;
use crate::message::Request;
use crate::reply::{IntoReply, ReplyKind};

/// A slot that runs one request at a time.
pub(crate) trait HandlerSlot: Send {
    /// Starts `request`. The slot must be empty.
    fn start(&mut self, request: Request);

    /// Polls the handler. Once it is ready, the reply's JSON is at the end of `out` and the slot is empty.
    ///
    /// # Errors
    /// The error of a guard, an argument or the handler.
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<ReplyKind, RpcError>>;

    /// Drops the handler's future, wherever it is.
    fn cancel(&mut self);
}

/// The slot of one endpoint: `start` creates the future that `future` holds.
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
