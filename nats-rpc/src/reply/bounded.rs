//! Replies to callers whose proof may end.

use std::sync::Arc;

use super::{IntoReply, ReplyKind};
use crate::error::RpcError;
use crate::validity::Validity;

/// A handler's reply, with the validity of the guards' proof. Only a stream outlasts the check of the guards.
///
/// It is a reply for every `T`. Otherwise the compiler would report a type that is not a reply twice.
#[doc(hidden)]
pub struct Bounded<T> {
    reply: T,
    write: fn(T, &mut Vec<u8>) -> Result<ReplyKind, RpcError>,
    validity: Option<Arc<dyn Validity>>,
}

impl<T: IntoReply> Bounded<T> {
    pub(super) fn new(reply: T, validity: Option<Arc<dyn Validity>>) -> Self {
        Self { reply, write: T::write, validity }
    }
}

// Handlers never return it.
#[diagnostic::do_not_recommend]
impl<T> IntoReply for Bounded<T> {
    fn write(self, out: &mut Vec<u8>) -> Result<ReplyKind, RpcError> {
        let mut written = (self.write)(self.reply, out)?;
        if let ReplyKind::Stream(items) = &mut written {
            items.bound_by(self.validity);
        }
        Ok(written)
    }
}
