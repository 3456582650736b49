//! The key pairs of one instance.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nats_rpc::Connection;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::bucket::JwksBucket;
use super::follow::Followed;
use super::publisher::Publisher;
use super::{KeyPurpose, KeysError};
use crate::DetachedSigner;
use crate::{
    ASSERTION_ISSUER, ASSERTION_LIFETIME, ActiveKey, AssertionSigner, ClientIpSigner, Clock, DEFAULT_ISSUER,
    JwtConfigError, KeyRing, Publishing, Signer,
};

/// The timeout of publishing the first key, and of a rotation beyond its activation delay.
const LIMIT: Duration = Duration::from_secs(20);

/// The key pairs that one instance signs with; cheap to clone.
///
/// The private halves are generated in memory, are never stored or sent, and are overwritten when they are no longer
/// used. The public half of each is published by compare-and-set in the KV bucket of its [purpose](KeyPurpose), for
/// the lifetime of its tokens and three more heartbeats. Each heartbeat extends that, so the keys of a stopped
/// instance expire from the ring.
///
/// A rotation publishes a new key and waits until the key arrives through the same watch that verifiers use. After the
/// activation delay, the instance signs with the new key. Tokens signed with the old one stay valid. A gateway may not
/// watch the bucket to which it writes, and reads it every 2 s instead.
///
/// ```no_run
/// use nats_rpc_jwt::{KeyPurpose, SigningKeyConfig, SigningKeys};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = SigningKeys::open(&connection, SigningKeyConfig::new(KeyPurpose::AccessTokens)).await?;
/// let first = keys.kid();
/// let second = keys.rotate().await?;
/// assert_ne!(first, Some(second));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SigningKeys(Arc<Shared>);

struct Shared {
    active: ActiveKey,
    ring: KeyRing,
    config: SigningKeyConfig,
    order: Arc<Notify>,
    /// Notified of each published key of this instance.
    published: Arc<Notify>,
    kid: watch::Receiver<Option<String>>,
    publisher: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// The purpose of key pairs, and the period of use of each.
#[derive(Clone, Debug)]
#[must_use]
pub struct SigningKeyConfig {
    pub(super) purpose: KeyPurpose,
    #[doc(hidden)]
    pub issuer: String,
    #[doc(hidden)]
    pub token_lifetime: Duration,
    pub(super) rotate_every: Duration,
    pub(super) heartbeat: Duration,
    pub(super) activation_delay: Duration,
    #[doc(hidden)]
    pub clock: Clock,
    pub(super) tell: Tell,
}

/// The callback for key events.
#[derive(Clone)]
pub(super) struct Tell(pub(super) Arc<dyn Fn(KeyEvent) + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// An event of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// Its public half is in the ring; it signs no tokens yet.
    Published {
        /// The key's id.
        kid: String,
    },
    /// It is the active key from now on.
    Signing {
        /// The key's id.
        kid: String,
    },
    /// It is no longer in the ring, although this instance did not remove it, and signs no more tokens.
    Lost {
        /// The key's id.
        kid: String,
    },
}

impl SigningKeyConfig {
    /// Creates settings for keys of this purpose: rotation every 24 h, a heartbeat every minute, 10 s between
    /// publication and use.
    ///
    /// For access tokens: issuer `nats-rpc-auth`, 15 min of lifetime. For assertions and proofs of client addresses:
    /// issuer `gateway`, 10 s.
    pub fn new(purpose: KeyPurpose) -> Self {
        let (issuer, token_lifetime) = match purpose {
            KeyPurpose::AccessTokens => (DEFAULT_ISSUER, Duration::from_secs(15 * 60)),
            KeyPurpose::Assertions | KeyPurpose::Peers => (ASSERTION_ISSUER, Duration::from_secs(ASSERTION_LIFETIME)),
        };
        Self {
            purpose,
            issuer: issuer.to_owned(),
            token_lifetime,
            rotate_every: Duration::from_secs(24 * 60 * 60),
            heartbeat: Duration::from_secs(60),
            activation_delay: Duration::from_secs(10),
            clock: Clock::default(),
            tell: Tell(Arc::new(drop)),
        }
    }

    /// Sets the issuer of the keys. Verifiers accept gateway statements from issuer `gateway` only.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// Sets the maximum lifetime of signed tokens, in whole seconds. Default: 15 min, assertions 10 s.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// Sets the period for which a key pair signs. Default: 24 h; up to a tenth less, so that instances do not rotate
    /// in lockstep.
    pub fn rotate_every(mut self, interval: Duration) -> Self {
        self.rotate_every = interval;
        self
    }

    /// Sets the interval at which the published keys are extended. Default: 60 s. Three in a row may fail.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// Sets the time between seeing a key in the ring and using it, so that it has reached the slowest verifier.
    /// Default: 10 s. At most 250 ms if there is no other key to sign with.
    pub fn activation_delay(mut self, activation_delay: Duration) -> Self {
        self.activation_delay = activation_delay;
        self
    }

    /// Calls `hear` with each event of the keys, for example for an audit; it must not block.
    pub fn on_event(mut self, hear: impl Fn(KeyEvent) + Send + Sync + 'static) -> Self {
        self.tell = Tell(Arc::new(hear));
        self
    }

    /// Reads the time of documents from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    fn check(&self) -> Result<(), JwtConfigError> {
        if self.issuer.is_empty() {
            return Err(JwtConfigError::Empty { name: "issuer" });
        }
        if self.token_lifetime < Duration::from_secs(1) {
            return Err(JwtConfigError::MaxLifetime);
        }
        let intervals = [self.rotate_every, self.heartbeat];
        if intervals.iter().any(|interval| *interval < Duration::from_millis(10)) {
            return Err(JwtConfigError::Interval);
        }
        Ok(())
    }

    /// Returns the number of seconds for which a key is published each time.
    pub(super) fn horizon(&self) -> u64 {
        let heartbeats = self.heartbeat.saturating_mul(3).as_secs_f64().ceil() as u64;
        self.token_lifetime.as_secs() + heartbeats + 1
    }
}

impl SigningKeys {
    /// Generates the first key pair and publishes its public half.
    ///
    /// # Errors
    /// - [`KeysError::Config`]: the issuer is empty, the lifetime below 1 s, or an interval below 10 ms.
    /// - [`KeysError::NotProvisioned`], [`KeysError::Bucket`], [`KeysError::NotLoaded`]: as
    ///   [`KeyRing::watch`].
    /// - [`KeysError::NoKey`]: the key was not published within 20 s, for example because this user may not write.
    pub async fn open(connection: &Connection, config: SigningKeyConfig) -> Result<Self, KeysError> {
        config.check()?;
        let bucket = JwksBucket::open(connection, config.purpose).await?;
        let by_beacons = connection.auth_js_api_prefix().is_some();
        let followed = match config.purpose.is_looked_up() && !by_beacons {
            false => Followed::start(connection, config.purpose).await?,
            true => Followed::poll(connection, config.purpose).await?,
        };
        let ring = followed.ring.clone();
        let (active, order, published) = (ActiveKey::default(), Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (signing, kid) = watch::channel(None);
        let mut publisher = Publisher::new(bucket, followed, config.clone(), active.clone(), order.clone(), signing);
        publisher.looks_up = config.purpose.is_looked_up() || by_beacons;
        publisher.published = published.clone();
        let publisher = tokio::spawn(publisher.run()).abort_handle();
        let keys = Self(Arc::new(Shared { active, ring, config, order, published, kid, publisher }));
        keys.other_than(None, LIMIT).await?;
        Ok(keys)
    }

    /// Returns the id of the active key, or `None` briefly after it was retired.
    pub fn kid(&self) -> Option<String> {
        self.0.active.kid()
    }

    /// Returns the ring in which the keys are published, for verifiers in the same process.
    pub fn ring(&self) -> &KeyRing {
        &self.0.ring
    }

    /// Rotates to a new key pair, and returns its id once it is active.
    ///
    /// # Errors
    /// [`KeysError::NoKey`] if that takes 20 s longer than the activation delay; the rotation may still happen.
    pub async fn rotate(&self) -> Result<String, KeysError> {
        let before = self.kid();
        self.0.order.notify_one();
        self.other_than(before, self.0.config.activation_delay + LIMIT).await
    }

    /// Returns a signer of assertions with these keys, which should be for [assertions](KeyPurpose::Assertions).
    pub fn assertion_signer(&self) -> AssertionSigner {
        AssertionSigner::signed_by(self.signer())
    }

    /// Returns a signer of client address proofs with these keys, which should be for [peers](KeyPurpose::Peers).
    pub fn client_ip_signer(&self) -> ClientIpSigner {
        ClientIpSigner::signed_by(self.signer())
    }

    /// Returns a signer with the key that is active at the time of signing.
    #[doc(hidden)]
    pub fn signer(&self) -> Signer {
        Signer::Ring { active: self.0.active.clone(), _publisher: Publishing(self.0.clone()) }
    }

    /// Returns a signer for data other than tokens, with the key that is active at the time of signing.
    pub(crate) fn detached_signer(&self) -> DetachedSigner {
        DetachedSigner::Keys { active: self.0.active.clone(), _publisher: Publishing(self.0.clone()) }
    }

    /// Returns the notification of published keys of this instance.
    pub(crate) fn published(&self) -> Arc<Notify> {
        self.0.published.clone()
    }

    #[doc(hidden)]
    pub fn config(&self) -> &SigningKeyConfig {
        &self.0.config
    }

    async fn other_than(&self, before: Option<String>, limit: Duration) -> Result<String, KeysError> {
        let mut kid = self.0.kid.clone();
        let changed = kid.wait_for(|kid| kid.is_some() && *kid != before);
        match tokio::time::timeout(limit, changed).await {
            Ok(Ok(kid)) => kid.clone().ok_or(KeysError::NoKey { waited: limit }),
            _ => Err(KeysError::NoKey { waited: limit }),
        }
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKeys").field("purpose", &self.0.config.purpose).field("kid", &self.kid()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> SigningKeyConfig {
        SigningKeyConfig::new(KeyPurpose::AccessTokens)
    }

    #[test]
    fn what_is_signed_lives_for_a_second_at_least_and_intervals_have_10_ms() {
        let (second, ten) = (Duration::from_secs(1), Duration::from_millis(10));
        assert!(config().token_lifetime(second).check().is_ok());
        assert!(config().rotate_every(ten).heartbeat(ten).check().is_ok());
        let (less, nine) = (Duration::from_millis(999), Duration::from_millis(9));
        assert_eq!(config().token_lifetime(less).check(), Err(JwtConfigError::MaxLifetime));
        assert_eq!(config().rotate_every(nine).check(), Err(JwtConfigError::Interval));
        assert_eq!(config().heartbeat(nine).check(), Err(JwtConfigError::Interval));
        assert_eq!(config().issuer("").check(), Err(JwtConfigError::Empty { name: "issuer" }));
    }

    #[test]
    fn a_key_is_published_for_a_token_beyond_three_heartbeats() {
        assert_eq!(config().horizon(), 900 + 180 + 1);
        assert_eq!(config().heartbeat(Duration::from_millis(500)).horizon(), 900 + 2 + 1);
    }
}
