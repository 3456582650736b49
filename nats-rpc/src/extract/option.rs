use std::future::Future;

use super::{BindContext, Extract};
use crate::error::RpcError;
use crate::message::Request;

/// An argument that may be absent. It makes `Option<E>` an argument as well.
///
/// An absent argument gives `None`. One that is present but invalid gives the error of `E`.
pub trait OptionalExtract: Extract {
    /// Runs once, at startup. Default: that of `E`.
    ///
    /// # Errors
    /// As [`Extract::bind`].
    fn bind_optional(cx: &BindContext<'_>) -> Result<Self::Bound, String> {
        Self::bind(cx)
    }

    /// Runs for each request.
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
