use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::RpcError;

/// Runs CPU-heavy or blocking `work` on a thread where it does not delay handlers.
///
/// A handler that computes for longer than a few milliseconds between two `.await`s delays every other handler of its
/// thread. The work runs on tokio's blocking threads. It continues when its handler is cancelled;
/// [`Service::main`](crate::Service::main) does not wait for it.
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
///     nats_rpc::spawn_blocking(move || (2..below).filter(is_prime).count()).await
/// }
/// ```
pub async fn spawn_blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, RpcError> {
    let span = tracing::Span::current();
    let underway = Underway::count();
    let counted = move || {
        let _underway = underway;
        span.in_scope(work)
    };
    tokio::task::spawn_blocking(counted).await.map_err(|_| RpcError::internal("the blocking work panicked"))
}

/// Returns `true` if such work still runs in this process.
#[cfg(feature = "cli")]
pub(super) fn is_underway() -> bool {
    UNDERWAY.load(Ordering::Relaxed) > 0
}

static UNDERWAY: AtomicUsize = AtomicUsize::new(0);

struct Underway;

impl Underway {
    fn count() -> Self {
        UNDERWAY.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        UNDERWAY.fetch_sub(1, Ordering::Relaxed);
    }
}
