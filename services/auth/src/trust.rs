//! The keys that sign and verify tokens, watched once for all users of them.

use std::error::Error;
use std::sync::Arc;

use nats_rpc::{Client, Connection, ServiceContext};
use nats_rpc_auth::Audit;
use nats_rpc_jwt::{
    ChangeSigner, ClientIpVerifier, JwtConfig, KeyPurpose, KeyRing, KeysError, Revocations, SigningKeyConfig,
    TrustBeacon, VerifierConfig,
};
use tokio::sync::OnceCell;

use crate::config::Settings;
use crate::keys::AccessKeys;

type BoxError = Box<dyn Error + Send + Sync>;

/// The trust of one start of the service, shared by all who use it; the first use opens it.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedTrust(Arc<OnceCell<Trust>>);

/// The opened trust; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    pub(crate) audit: Audit,
    pub(crate) keys: AccessKeys,
    pub(crate) revocations: Revocations,
    /// Signs the revocations that other services receive.
    pub(crate) signer: ChangeSigner,
    /// Held so that the beacon stays published.
    pub(crate) beacon: Arc<TrustBeacon>,
    settings: VerifierConfig,
    peers: ClientIpVerifier,
}

impl SharedTrust {
    pub(crate) async fn open(
        &self,
        config: &ServiceContext,
        vars: impl Fn(&str) -> Option<String>,
    ) -> Result<Trust, BoxError> {
        let open = || Trust::open(config.connection(), vars);
        self.0.get_or_try_init(open).await.cloned()
    }
}

impl Trust {
    async fn open(connection: &Connection, vars: impl Fn(&str) -> Option<String>) -> Result<Self, BoxError> {
        let Settings { access_secret, assertion_secret, issuer, audience, key_rotation, key_activation_delay, .. } =
            Settings::from_vars(&vars)?;
        let mut settings = VerifierConfig::from_vars(vars)?;
        let audit = Audit::new(&Client::new(connection.clone()));
        let (keys, peers) = match (access_secret, assertion_secret) {
            (None, _) => {
                let keys = SigningKeyConfig::new(KeyPurpose::AccessTokens).issuer(issuer);
                let keys = keys.rotate_every(key_rotation).activation_delay(key_activation_delay);
                let keys = AccessKeys::ring(connection, keys, audit.clone()).await?;
                // One bucket contains the keys of gateways: for client IP proofs and, where accepted, for assertions
                // about callers.
                let gateways = KeyRing::watch(connection, KeyPurpose::Peers).await?;
                settings = settings.gateways(gateways.clone());
                (keys, ClientIpVerifier::ring(gateways, audience))
            }
            (Some(access), Some(assertion)) => {
                (AccessKeys::Secret(access), ClientIpVerifier::hs256(&assertion, audience))
            }
            (Some(access), None) => (AccessKeys::Secret(access), ClientIpVerifier::none()),
        };
        if let AccessKeys::Ring(keys) = &keys {
            settings = settings.ring(keys.ring().clone());
        }
        let signer = keys.change_signer();
        let beacon = Arc::new(TrustBeacon::start(connection, &signer).await?);
        let revocations = settings.watch_revocations(connection).await?;
        let settings = settings.revocations(revocations.clone());
        Ok(Self { audit, keys, revocations, signer, beacon, settings, peers })
    }

    /// Returns the configuration of this service's own guard.
    pub(crate) async fn guard(self, connection: &Connection) -> Result<JwtConfig, KeysError> {
        self.settings.load(connection).await
    }

    /// Returns the verifier of client IP proofs: with the key ring, by gateways whose keys are in their ring.
    pub(crate) fn peers(self) -> ClientIpVerifier {
        self.peers
    }
}
