use std::future::Future;

use super::{BindContext, Extract};
use crate::error::RpcError;
use crate::message::Request;

/// An argument that may be absent: what makes `Option<E>` an argument too.
///
/// Absent gives `None`; present but invalid is the error that `E` would give.
pub trait OptionalExtract: Extract {
    /// The start-up half. Default: that of `E`.
    ///
    /// # Errors
    /// As [`Extract::bind`].
    fn bind_optional(cx: &BindContext<'_>) -> Result<Self::Bound, String> {
        Self::bind(cx)
    }

    /// The half of each request.
    ///
    /// # Errors
    /// If the argument is present and invalid.
    fn extract_optional(
        bound: &Self::Bound,
        request: &mut Request,
    ) -> impl Future<Output = Result<Option<Self>, RpcError>> + Send;
}

impl<E: OptionalExtract> Extract for Option<E> {
    type Bound = E::Bound;

    fn bind(cx: &BindContext<'_>) -> Result<E::Bound, String> {
        E::bind_optional(cx)
    }

    fn extract(bound: &E::Bound, request: &mut Request) -> impl Future<Output = Result<Self, RpcError>> + Send {
        E::extract_optional(bound, request)
    }
}
