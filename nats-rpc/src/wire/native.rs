//! The native wire format: the body is the data, and the reply is the bare value.

use bytes::Bytes;

use super::{Dialect, Opened, error_body};
use crate::error::RpcError;

pub(super) fn open(payload: Bytes) -> Opened {
    Opened { dialect: Dialect::Native, data: (!payload.is_empty()).then_some(payload) }
}

/// Writes `{"code","message","details"?}`.
pub(super) fn error(out: &mut Vec<u8>, error: &RpcError) {
    error_body(out, error, None);
}
