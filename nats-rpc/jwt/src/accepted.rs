//! An accepted token, and whether it is still valid.

use std::sync::Arc;

use nats_rpc::{RpcError, Validity};

use super::revocation::Stale;
use super::verifier::{Standing, Verifier};

/// The claims of an accepted token and the conditions of its validity; the cache holds these.
#[derive(Debug)]
pub(super) struct Accepted<C> {
    pub(super) claims: Arc<C>,
    pub(super) standing: Standing,
    pub(super) verifier: Arc<Verifier>,
    /// The guard's behavior while revocations are stale.
    pub(super) stale: Stale,
}

impl<C: Send + Sync> Validity for Accepted<C> {
    fn check(&self) -> Result<(), RpcError> {
        Ok(self.verifier.recheck(&self.standing, self.stale)?)
    }
}

/// A token that a handler still accepts while revocations are stale, although its guard does not.
struct AcceptedThoughStale<C>(Arc<Accepted<C>>);

impl<C: Send + Sync> Validity for AcceptedThoughStale<C> {
    fn check(&self) -> Result<(), RpcError> {
        let Accepted { verifier, standing, .. } = &*self.0;
        Ok(verifier.recheck(standing, Stale::Accept)?)
    }
}

/// The verified facts about a caller.
pub(super) struct Caller<C> {
    pub(super) claims: Arc<C>,
    /// `None` if they do not expire.
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
