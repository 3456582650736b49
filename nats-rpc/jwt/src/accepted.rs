//! A token that was accepted, and whether it still holds.

use std::sync::Arc;

use nats_rpc::{RpcError, Validity};

use super::revocation::Stale;
use super::verifier::{Standing, Verifier};

/// The claims of an accepted token with what goes on deciding about it; the cache holds these.
#[derive(Debug)]
pub(super) struct Accepted<C> {
    pub(super) claims: Arc<C>,
    pub(super) standing: Standing,
    pub(super) verifier: Arc<Verifier>,
    /// Behavior of the guard while revocations are stale.
    pub(super) stale: Stale,
}

impl<C: Send + Sync> Validity for Accepted<C> {
    fn check(&self) -> Result<(), RpcError> {
        Ok(self.verifier.recheck(&self.standing, self.stale)?)
    }
}

/// A token that a handler goes on accepting while revocations are stale, though its guard does not.
struct AcceptedThoughStale<C>(Arc<Accepted<C>>);

impl<C: Send + Sync> Validity for AcceptedThoughStale<C> {
    fn check(&self) -> Result<(), RpcError> {
        let Accepted { verifier, standing, .. } = &*self.0;
        Ok(verifier.recheck(standing, Stale::Accept)?)
    }
}

/// Facts that a guard proved about a caller.
pub(super) struct Caller<C> {
    pub(super) claims: Arc<C>,
    /// `None` for what has no end.
    pub(super) validity: Option<Arc<dyn Validity>>,
}

impl<C: Send + Sync + 'static> Caller<C> {
    pub(super) fn of(accepted: Arc<Accepted<C>>, stale: Stale) -> Self {
        let claims = Arc::clone(&accepted.claims);
        let validity: Arc<dyn Validity> = match accepted.stale == stale {
            // The usual case allocates nothing.
            true => accepted,
            false => Arc::new(AcceptedThoughStale(accepted)),
        };
        Self { claims, validity: Some(validity) }
    }
}
