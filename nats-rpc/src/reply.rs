//! What a handler may return.

use std::marker::PhantomData;

use serde::Serialize;

use crate::error::{IntoRpcError, RpcError};

/// What [`IntoReply::write`] left in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Written {
    /// One JSON value.
    Value,
    /// A value that stands for "nothing", such as `()`; NestJS callers complete without a value.
    Nothing,
}

/// A handler's answer; every [`Serialize`] type is one.
///
/// A handler returns it bare or in a `Result` whose error is an [`RpcError`] or derives
/// [`macro@crate::IntoRpcError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's answer",
    label = "not serialisable",
    note = "derive `serde::Serialize` on it; a handler returns such a type, or a `Result` of one"
)]
pub trait IntoReply {
    /// Appends the answer's JSON to `out`.
    ///
    /// # Errors
    /// A 500 if the value cannot be serialised, for instance a map whose keys are no strings.
    fn write(self, out: &mut Vec<u8>) -> Result<Written, RpcError>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize> IntoReply for T {
    fn write(self, out: &mut Vec<u8>) -> Result<Written, RpcError> {
        let start = out.len();
        serde_json::to_writer(&mut *out, &self).map_err(RpcError::internal)?;
        // `()` and `None` have the same JSON, and NestJS callers see a difference. What has no size has
        // no value either, so a type without one that serialises to null is `()` or a unit struct.
        let nothing = size_of::<T>() == 0 && &out[start..] == b"null";
        Ok(if nothing { Written::Nothing } else { Written::Value })
    }
}

/// Picks, by autoref, how a handler's return value becomes a `Result`; the macros' tool.
#[doc(hidden)]
pub struct Probe<T>(PhantomData<T>);

impl<T> Probe<T> {
    #[doc(hidden)]
    pub fn of(_: &T) -> Self {
        Self(PhantomData)
    }
}

#[doc(hidden)]
pub trait WrapResult<T, E> {
    /// A `Result` is taken as it is.
    fn wrap(&self, reply: Result<T, E>) -> Result<T, RpcError>
    where
        T: IntoReply,
        E: IntoRpcError;
}

impl<T, E> WrapResult<T, E> for Probe<Result<T, E>> {
    fn wrap(&self, reply: Result<T, E>) -> Result<T, RpcError>
    where
        T: IntoReply,
        E: IntoRpcError,
    {
        reply.map_err(IntoRpcError::into_rpc_error)
    }
}

#[doc(hidden)]
pub trait WrapPlain<T> {
    /// Anything else is a success.
    fn wrap(&self, reply: T) -> Result<T, RpcError>
    where
        T: IntoReply;
}

impl<T> WrapPlain<T> for &Probe<T> {
    fn wrap(&self, reply: T) -> Result<T, RpcError>
    where
        T: IntoReply,
    {
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: impl IntoReply) -> (Written, String) {
        let mut out = Vec::new();
        let written = value.write(&mut out).unwrap();
        (written, String::from_utf8(out).unwrap())
    }

    #[test]
    fn unit_is_nothing_and_none_is_null() {
        #[derive(Serialize)]
        struct Done;
        assert_eq!(write(()), (Written::Nothing, "null".to_owned()));
        assert_eq!(write(Done).0, Written::Nothing);
        assert_eq!(write(None::<u8>), (Written::Value, "null".to_owned()));
        assert_eq!(write(serde_json::Value::Null).0, Written::Value);
        assert_eq!(write(f64::NAN).0, Written::Value);
        assert_eq!(write(5), (Written::Value, "5".to_owned()));
    }

    #[test]
    fn a_value_that_is_no_json_is_an_internal_error() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert_eq!(map.write(&mut Vec::new()).unwrap_err().code(), crate::Code::Internal);
    }
}
