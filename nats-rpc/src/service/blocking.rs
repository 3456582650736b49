use crate::error::RpcError;

/// Runs CPU-heavy or blocking `work` on a thread where it holds nobody up.
///
/// A handler that computes for longer than a few milliseconds between two `.await`s holds up every other
/// one of its thread. The threads are tokio's blocking ones. Work that has started goes on when its
/// handler is cancelled.
///
/// # Errors
/// 500 if `work` panics.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("primes.count")]
/// async fn count(Payload(below): Payload<u64>) -> Result<usize, RpcError> {
///     let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
///     nats_rpc::blocking(move || (2..below).filter(is_prime).count()).await
/// }
/// ```
pub async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, RpcError> {
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(work)).await;
    done.map_err(|_| RpcError::internal("the blocking work panicked"))
}
