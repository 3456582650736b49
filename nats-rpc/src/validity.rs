//! Validity of a guard's proof about a caller.

use std::sync::Arc;

use crate::error::RpcError;

/// A check of whether a guard's proof about a caller still holds.
///
/// Implement it if a proof can end while a handler runs: a token can expire or be revoked. The guard gives it to the
/// request with [`Request::add_validity`](crate::Request::add_validity). While the handler streams, the service calls
/// the check twice a second, and ends the stream with its error. A handler that replies once is not interrupted.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Instant;
///
/// use nats_rpc::prelude::*;
/// use nats_rpc::Validity;
///
/// /// A pass that ends at a moment.
/// struct Pass { until: Instant }
///
/// impl Validity for Pass {
///     fn check(&self) -> Result<(), RpcError> {
///         if Instant::now() < self.until { Ok(()) } else { Err(RpcError::unauthenticated("the pass has ended")) }
///     }
/// }
///
/// struct Passes;
///
/// impl Guard for Passes {
///     async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
///         request.add_validity(Arc::new(Pass { until: request.deadline() }));
///         Ok(())
///     }
/// }
/// ```
pub trait Validity: Send + Sync {
    /// Returns `Ok` while the proof holds. The service calls it on its loop, so it must not block.
    ///
    /// # Errors
    /// The error that ends the stream: 401 if the proof has ended, 503 if its state is unknown.
    fn check(&self) -> Result<(), RpcError>;
}

/// Validity of two guards together; it holds while both hold.
pub(crate) struct Both(pub(crate) Arc<dyn Validity>, pub(crate) Arc<dyn Validity>);

impl Validity for Both {
    fn check(&self) -> Result<(), RpcError> {
        self.0.check()?;
        self.1.check()
    }
}
