//! Return values of handlers, and how they become replies.

mod bounded;
mod streaming;

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;

pub use self::bounded::Bounded;
pub use self::streaming::{BoxReplyStream, StreamItem, Streaming};
use crate::error::{IntoRpcError, RpcError};
use crate::validity::Validity;

/// The kind of reply that [`IntoReply::write`] wrote into the buffer.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplyKind {
    /// One JSON value.
    Value,
    /// A value that means "nothing", such as `()`; NestJS callers complete without a value.
    Nothing,
    /// Items that follow one by one; the buffer is unchanged.
    Stream(BoxReplyStream),
}

/// A handler's reply; every [`Serialize`] type is one, and so is [`Streaming`].
///
/// A handler returns it bare or in a `Result` whose error is an [`RpcError`] or derives
/// [`macro@crate::IntoRpcError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's answer",
    label = "not serialisable",
    note = "derive `serde::Serialize` on it; a handler returns such a type, a `Result` of one, or a `Streaming` whose \
            items are a `Result` of one each"
)]
pub trait IntoReply {
    /// Appends the reply's JSON to `out`.
    ///
    /// # Errors
    /// A 500 if the value cannot be serialised, for instance a map whose keys are not strings.
    fn write(self, out: &mut Vec<u8>) -> Result<ReplyKind, RpcError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> IntoReply for T {
    fn write(self, out: &mut Vec<u8>) -> Result<ReplyKind, RpcError> {
        let start = out.len();
        serde_json::to_writer(&mut *out, &self).map_err(RpcError::internal)?;
        // `()` and `None` have the same JSON, and NestJS callers distinguish them. A type of size zero has no value,
        // so if it serialises to null, it is `()` or a unit struct.
        let nothing = size_of::<T>() == 0 && &out[start..] == b"null";
        Ok(if nothing { ReplyKind::Nothing } else { ReplyKind::Value })
    }
}

/// Selects, by autoref, how a handler's return value becomes a `Result`; for the macros.
#[doc(hidden)]
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    #[doc(hidden)]
    pub fn of(_: &T) -> Self {
        Self(PhantomData)
    }
}

/// The return type of an event handler: anything that is not a reply.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be returned from an event's handler",
    label = "nobody is there to take it",
    note = "an event is not answered, so its handler returns nothing or what can be serialised, and no stream: for a \
            `Streaming` use `#[message_pattern(\"…\")]`"
)]
pub trait EventReply {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> EventReply for T {}

#[doc(hidden)]
pub trait WrapResult<T, E> {
    /// Keeps a `Result`, and adds `validity` to it.
    fn wrap(&self, reply: Result<T, E>, validity: Option<Arc<dyn Validity>>) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply,
        E: IntoRpcError;

    /// The same for an event, of which only the error matters.
    fn wrap_event(&self, reply: Result<T, E>) -> Result<(), RpcError>
    where
        T: EventReply,
        E: IntoRpcError;

    /// The same for a function that handles both. It cannot return a type that an event handler cannot return.
    fn wrap_both(&self, reply: Result<T, E>) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply + EventReply,
        E: IntoRpcError,
    {
        // An event handler cannot return a stream, so its reply needs no validity.
        self.wrap(reply, None)
    }
}

impl<T, E> WrapResult<T, E> for Probe<Result<T, E>> {
    fn wrap(&self, reply: Result<T, E>, validity: Option<Arc<dyn Validity>>) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply,
        E: IntoRpcError,
    {
        reply.map(|reply| Bounded::new(reply, validity)).map_err(IntoRpcError::into_rpc_error)
    }

    fn wrap_event(&self, reply: Result<T, E>) -> Result<(), RpcError>
    where
        T: EventReply,
        E: IntoRpcError,
    {
        reply.map(drop).map_err(IntoRpcError::into_rpc_error)
    }
}

#[doc(hidden)]
pub trait WrapPlain<T> {
    /// Wraps any other value as a success.
    fn wrap(&self, reply: T, validity: Option<Arc<dyn Validity>>) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply;

    /// The same for an event.
    fn wrap_event(&self, reply: T) -> Result<(), RpcError>
    where
        T: EventReply;

    /// The same for a function that handles both.
    fn wrap_both(&self, reply: T) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply + EventReply,
    {
        self.wrap(reply, None)
    }
}

impl<T> WrapPlain<T> for &Probe<T> {
    fn wrap(&self, reply: T, validity: Option<Arc<dyn Validity>>) -> Result<Bounded<T>, RpcError>
    where
        T: IntoReply,
    {
        Ok(Bounded::new(reply, validity))
    }

    fn wrap_event(&self, reply: T) -> Result<(), RpcError>
    where
        T: EventReply,
    {
        drop(reply);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: impl IntoReply) -> (ReplyKind, String) {
        let mut out = Vec::new();
        let written = value.write(&mut out).unwrap();
        (written, String::from_utf8(out).unwrap())
    }

    #[test]
    fn unit_is_nothing_and_none_is_null() {
        #[derive(Serialize)]
        struct Done;
        let nothing = |written| matches!(written, (ReplyKind::Nothing, text) if text == "null");
        assert!(nothing(write(())) && nothing(write(Done)));
        let value = |written, json| matches!(written, (ReplyKind::Value, text) if text == json);
        assert!(value(write(None::<u8>), "null"));
        assert!(value(write(serde_json::Value::Null), "null"));
        assert!(value(write(f64::NAN), "null"));
        assert!(value(write(5), "5"));
    }

    #[test]
    fn a_value_that_is_no_json_is_an_internal_error() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(map.write(&mut Vec::new()).unwrap_err().code(), crate::Code::Internal);
    }
}
