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

/// How long the first key may take to be published, and a rotation beyond its margin.
const LIMIT: Duration = Duration::from_secs(20);

/// The key pairs that one instance signs with; cheap to clone.
///
/// The private halves are made in memory, are never stored or sent, and are overwritten when they are no
/// longer used. The public half of each is published by compare-and-set in the KV bucket of its
/// [purpose](KeyPurpose), for as long as what it signs lives and three heartbeats more. Each heartbeat
/// prolongs that, so the keys of an instance that is gone leave the ring by themselves.
///
/// A rotation publishes a new key, waits until it has come back by way of the watch that verifiers have as
/// well, and for a margin more; then it signs with the new one. What the old one signed stays good. (A
/// gateway may not watch the bucket that it writes, and looks it up instead, every 2 s.)
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
    /// Told of each key of this instance that was published.
    published: Arc<Notify>,
    kid: watch::Receiver<Option<String>>,
    publisher: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.publisher.abort();
    }
}

/// What key pairs are for, and how long each is used.
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

/// Whom to tell of keys.
#[derive(Clone)]
pub(super) struct Tell(pub(super) Arc<dyn Fn(KeyEvent) + Send + Sync>);

impl fmt::Debug for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tell")
    }
}

/// What became of a key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyEvent {
    /// Its public half is in the ring; it signs nothing yet.
    Published {
        /// The key's id.
        kid: String,
    },
    /// It signs from now on.
    Signing {
        /// The key's id.
        kid: String,
    },
    /// It is no longer in the ring, without this instance having wished it, and signs no more.
    Lost {
        /// The key's id.
        kid: String,
    },
}

impl SigningKeyConfig {
    /// Keys of this purpose: a new one each 24 h, a heartbeat a minute, 10 s from being seen to being used.
    ///
    /// For access tokens: issuer `nats-rpc-auth`, 15 min of life. For assertions and proofs of where callers
    /// are: issuer `gateway`, 10 s.
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

    /// Sets the issuer that the keys speak for. A gateway's word is taken from `gateway` alone.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = issuer.into();
        self
    }

    /// The longest life of what is signed, in whole seconds. Default: 15 min, assertions 10 s.
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.token_lifetime = lifetime;
        self
    }

    /// How long a key pair signs. Default: 24 h; up to a tenth less, so that instances do not march in step.
    pub fn rotate_every(mut self, interval: Duration) -> Self {
        self.rotate_every = interval;
        self
    }

    /// How often the published keys are prolonged. Default: 60 s. Three in a row may fail.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.heartbeat = interval;
        self
    }

    /// How long a key that was seen in the ring is not yet used, so that it has reached the slowest verifier.
    /// Default: 10 s. Where there is no other key to sign with, 250 ms at most.
    pub fn activation_delay(mut self, activation_delay: Duration) -> Self {
        self.activation_delay = activation_delay;
        self
    }

    /// Tells `hear` what becomes of the keys, as for an audit; it must not block.
    pub fn on_event(mut self, hear: impl Fn(KeyEvent) + Send + Sync + 'static) -> Self {
        self.tell = Tell(Arc::new(hear));
        self
    }

    /// Takes the time of the documents from `now` rather than from the system; for tests.
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

    /// For how many seconds a key is published each time.
    pub(super) fn horizon(&self) -> u64 {
        let heartbeats = self.heartbeat.saturating_mul(3).as_secs_f64().ceil() as u64;
        self.token_lifetime.as_secs() + heartbeats + 1
    }
}

impl SigningKeys {
    /// Makes the first key pair and publishes its public half.
    ///
    /// # Errors
    /// - [`KeysError::Config`]: the issuer is empty, the lifetime below 1 s, or an interval below 10 ms.
    /// - [`KeysError::NotProvisioned`], [`KeysError::Bucket`], [`KeysError::NotLoaded`]: as
    ///   [`KeyRing::watch`].
    /// - [`KeysError::NoKey`]: the key was not published within 20 s, as where this user may not write.
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

    /// The id of the key that signs now; `None` for the moment after it was retired.
    pub fn kid(&self) -> Option<String> {
        self.0.active.kid()
    }

    /// The ring that the keys are published in, for verifiers in the same process.
    pub fn ring(&self) -> &KeyRing {
        &self.0.ring
    }

    /// Changes to a new key pair, and gives its id once it signs.
    ///
    /// # Errors
    /// [`KeysError::NoKey`] if that takes 20 s longer than the margin; it may still happen.
    pub async fn rotate(&self) -> Result<String, KeysError> {
        let before = self.kid();
        self.0.order.notify_one();
        self.other_than(before, self.0.config.activation_delay + LIMIT).await
    }

    /// Signs assertions with these keys, which should be for [assertions](KeyPurpose::Assertions).
    pub fn assertion_signer(&self) -> AssertionSigner {
        AssertionSigner::signed_by(self.signer())
    }

    /// Signs proofs of where callers are with these keys, which should be for [peers](KeyPurpose::Peers).
    pub fn client_ip_signer(&self) -> ClientIpSigner {
        ClientIpSigner::signed_by(self.signer())
    }

    /// Signs with the key that is active at the time.
    #[doc(hidden)]
    pub fn signer(&self) -> Signer {
        Signer::Ring { active: self.0.active.clone(), _publisher: Publishing(self.0.clone()) }
    }

    /// Signs what is no token with the key that is active at the time.
    pub(crate) fn detached_signer(&self) -> DetachedSigner {
        DetachedSigner::Keys { active: self.0.active.clone(), _publisher: Publishing(self.0.clone()) }
    }

    /// Told of each key of this instance that was published.
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
