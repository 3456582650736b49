//! Signs the changes and beacons of an auth instance.

use std::fmt;
use std::sync::Arc;

use nats_rpc::Connection;
use tokio::sync::Notify;

use super::jwks::SigningKeys;
use super::watch::Hub;
use crate::{DetachedSigner, KeyRing, SecretKey};

/// Signs an auth instance's messages to watchers: revocations, and beacons. Clones share one signer.
///
/// A watcher accepts a change that arrives as a message only if a key of the ring signed it, or the static secret if
/// there is one. Pass the signer to [`Revoker::signed_by`](super::Revoker::signed_by) and
/// [`TrustBeacon::start`](super::TrustBeacon::start).
///
/// ```no_run
/// use nats_rpc_jwt::{ChangeSigner, Revoker, SigningKeys, TrustBeacon};
///
/// # async fn example(connection: nats_rpc::Connection, keys: SigningKeys) -> Result<(), Box<dyn std::error::Error>> {
/// let signer = ChangeSigner::keys(&keys);
/// let revoker = Revoker::open(&connection).await?.signed_by(&signer);
/// let beacon = TrustBeacon::start(&connection, &signer).await?; // keep it for as long as the service runs
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ChangeSigner(Arc<Parts>);

struct Parts {
    signer: DetachedSigner,
    verified_by: VerifiedBy,
    /// Notified of each published key of this instance.
    published: Arc<Notify>,
}

enum VerifiedBy {
    Ring(KeyRing),
    Secret(SecretKey),
}

impl ChangeSigner {
    /// Signs with the key of `keys` that is active at the time, which should be for [access
    /// tokens](super::KeyPurpose::AccessTokens).
    pub fn keys(keys: &SigningKeys) -> Self {
        let verified_by = VerifiedBy::Ring(keys.ring().clone());
        Self(Arc::new(Parts { signer: keys.detached_signer(), verified_by, published: keys.published() }))
    }

    /// Signs with a key that is derived from the secret of access tokens.
    pub fn secret(secret: &SecretKey) -> Self {
        let verified_by = VerifiedBy::Secret(secret.clone());
        Self(Arc::new(Parts { signer: DetachedSigner::secret(secret), verified_by, published: Arc::default() }))
    }

    pub(super) fn signer(&self) -> &DetachedSigner {
        &self.0.signer
    }

    pub(super) fn published(&self) -> &Notify {
        &self.0.published
    }

    /// Returns `true` if there are key rings in addition to the revocations.
    pub(super) fn has_rings(&self) -> bool {
        matches!(self.0.verified_by, VerifiedBy::Ring(_))
    }

    /// Returns the beacons that verifiers of this signer accept.
    pub(super) fn hub(&self, connection: &Connection) -> Arc<Hub> {
        match &self.0.verified_by {
            VerifiedBy::Ring(ring) => {
                Hub::running(connection).map_or_else(|| Hub::of_ring(connection, ring), |(hub, _)| hub)
            }
            VerifiedBy::Secret(secret) => Hub::of_secret(connection, secret),
        }
    }
}

impl fmt::Debug for ChangeSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChangeSigner").field(&self.0.signer).finish()
    }
}
