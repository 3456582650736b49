//! Login throttling: how soon the next attempt may come, shared by all instances.

mod count;
mod policy;
mod recent;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use async_nats::jetstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use nats_rpc::{Connection, RpcError};
use nats_rpc_jwt::__private::{Clock, doubled};
use nats_rpc_jwt::SecretKey;
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{Mutex, MutexGuard};
use zeroize::Zeroizing;

use self::count::{Count, Denied};
pub use self::policy::ThrottlePolicy;
use self::recent::RecentWaits;
use super::expiring::{Expiring, ExpiringError};

const BUCKET: &str = "auth_backoff";
/// The maximum number of attempts of a write that loses races against other instances: some two seconds in total.
const TRIES: u32 = 24;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// The number of keys that one instance can write concurrently.
const STRIPES: usize = 64;
/// The maximum wait for earlier writers; they take milliseconds unless the bucket does not reply.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// The lifetime of an empty record.
const EMPTY_TTL: Duration = Duration::from_secs(1);
/// The delay after which a busy attempt is worth a retry.
const BUSY_RETRY: Duration = Duration::from_millis(500);

/// Counts failed attempts per account, device or network, and determines the wait before the next one.
///
/// Only failures count. An attempt [begins](Self::begin) before its password is checked and ends with its outcome. All
/// instances together check as many attempts concurrently as may fail before the next wait; a further one is
/// [busy](ThrottleError::Busy). So a hundred concurrent attempts gain no more than a hundred sequential ones, and
/// concurrent right passwords cause no wait. During a wait no password is checked, not even the right one. An early
/// attempt does not extend the wait. Waits end and counts expire: nothing is locked permanently. A key need not belong
/// to an existing account, so the reply does not reveal whether one exists.
///
/// Counts are in the KV bucket `auth_backoff` under keyed hashes, written by compare-and-set. The attempts of one
/// instance are serialized per key, so that they do not compete with each other.
///
/// ```no_run
/// use nats_rpc_jwt::SecretKey;
/// use nats_rpc_auth::{LoginThrottle, ThrottlePolicy};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let pepper = SecretKey::from_vars("JWT_REFRESH_SECRET", |name| std::env::var(name).ok())?;
/// let throttle = LoginThrottle::open(&connection, &pepper).await?;
/// let account = throttle.key("log-in", "ada@example.com");
/// let attempt = throttle.begin(&account, &ThrottlePolicy::ACCOUNT).await?;
/// // … the password is right:
/// throttle.succeeded(attempt).await?;
/// # Ok(())
/// # }
/// ```
pub struct LoginThrottle {
    counts: Expiring<Count>,
    keyed: Keyed,
    clock: Clock,
    recent: RecentWaits,
    /// One writer at a time for each key, in order of arrival.
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// The key of a count: a kind of attempt, and a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThrottleKey {
    key: String,
    hash_at: usize,
}

impl ThrottleKey {
    /// Returns the keyed hash alone, 43 characters; it does not reveal the hashed text.
    pub fn hash(&self) -> &str {
        &self.key[self.hash_at..]
    }
}

/// An attempt that is being checked.
///
/// An attempt without an outcome, as of a killed process, counts as failed after 30 s.
#[derive(Debug)]
#[must_use = "it counts as failed after 30 s unless its outcome is told"]
pub struct ThrottledAttempt {
    key: ThrottleKey,
    policy: ThrottlePolicy,
    id: u32,
}

/// The reason why an attempt is not checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ThrottleError {
    /// Too many earlier attempts failed.
    #[error("too many attempts failed: try again later")]
    #[non_exhaustive]
    TooSoon {
        /// The time to wait.
        retry_after: Duration,
    },
    /// Other attempts at the same key are being checked, and their failures could use up all that are left.
    #[error("busy: other attempts are being checked; try again")]
    Busy,
    /// The counts cannot be read or written; without them, password guessing would be unbounded.
    #[error(transparent)]
    Counts(#[from] ExpiringError),
}

impl ThrottleError {
    /// Returns the time to wait, in milliseconds, if too many attempts failed.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::TooSoon { retry_after } => Some(millis(*retry_after)),
            Self::Busy | Self::Counts(_) => None,
        }
    }
}

impl From<Denied> for ThrottleError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::TooSoon(retry_after) => Self::TooSoon { retry_after },
            Denied::Busy => Self::Busy,
        }
    }
}

/// 429 with `{"retryAfterMs": …}` as details if too many failed, else 503; busy has such details as well.
impl From<ThrottleError> for RpcError {
    fn from(error: ThrottleError) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Details {
            retry_after_ms: u64,
        }
        match error {
            ThrottleError::TooSoon { retry_after } => {
                Self::resource_exhausted("too many attempts failed: try again later")
                    .with_details(Details { retry_after_ms: millis(retry_after) })
            }
            ThrottleError::Busy => {
                Self::unavailable("busy").with_details(Details { retry_after_ms: millis(BUSY_RETRY) })
            }
            ThrottleError::Counts(error) => error.into(),
        }
    }
}

impl LoginThrottle {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or updates an existing one to this configuration.
    ///
    /// # Errors
    /// [`ExpiringError::Provision`] if the server rejects the request, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), ExpiringError> {
        Expiring::<Count>::provision(jetstream, BUCKET, "attempts that failed, by keyed hash", replicas).await
    }

    /// Opens the bucket; `pepper` keys the hashes and is the same for all instances.
    ///
    /// # Errors
    /// [`ExpiringError::Bucket`] if it was not provisioned or cannot be reached, [`ExpiringError::NoTtl`] if it was
    /// created without limit markers.
    pub async fn open(connection: &Connection, pepper: &SecretKey) -> Result<Self, ExpiringError> {
        Ok(Self {
            counts: Expiring::open(connection, BUCKET).await?,
            keyed: Keyed::new(pepper),
            clock: Clock::default(),
            recent: RecentWaits::default(),
            stripes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        })
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Returns the key of attempts of a kind by, or at, `whose`.
    pub fn key(&self, kind: &'static str, whose: &str) -> ThrottleKey {
        let hash = self.keyed.hash(kind, whose);
        ThrottleKey { hash_at: kind.len() + 1, key: format!("{kind}.{hash}") }
    }

    /// Returns the number of failures at `key`, if the next attempt need not wait. Writes nothing; costs at most one
    /// read a second while the key has to wait.
    ///
    /// # Errors
    /// [`ThrottleError::TooSoon`] if the next attempt has to wait, [`ThrottleError::Counts`] if the bucket does not
    /// reply.
    pub async fn check(&self, key: &ThrottleKey, policy: &ThrottlePolicy) -> Result<u32, ThrottleError> {
        if let Some(retry_after) = self.recent.left(&key.key, Instant::now()) {
            return Err(ThrottleError::TooSoon { retry_after });
        }
        let count = self.counts.read(&key.key).await?.record.unwrap_or_default();
        match count.wait(policy, self.clock.unix_millis()) {
            Ok(()) => Ok(count.failures),
            Err(left) => Err(self.too_soon(key, left)),
        }
    }

    /// Begins an attempt, before its password is checked.
    ///
    /// # Errors
    /// [`ThrottleError::TooSoon`] if it has to wait; it is not counted then. [`ThrottleError::Busy`] if attempts in
    /// progress could use up all failures without a wait. [`ThrottleError::Counts`] if the bucket does not reply.
    pub async fn begin(&self, key: &ThrottleKey, policy: &ThrottlePolicy) -> Result<ThrottledAttempt, ThrottleError> {
        let id = fastrand::u32(..);
        self.change(key, policy, |count, now| count.begin(id, policy, now)).await?;
        Ok(ThrottledAttempt { key: key.clone(), policy: *policy, id })
    }

    /// Ends an attempt whose password was right, and clears all failures at its key.
    ///
    /// # Errors
    /// [`ThrottleError::Counts`] or [`ThrottleError::Busy`] if that could not be written; the attempt counts as failed
    /// later.
    pub async fn succeeded(&self, attempt: ThrottledAttempt) -> Result<(), ThrottleError> {
        let ThrottledAttempt { key, policy, id } = attempt;
        self.recent.forget(&key.key);
        self.change(&key, &policy, |count, now| Ok(count.end(id, false, &policy, now))).await
    }

    /// Ends an attempt whose password was wrong.
    ///
    /// # Errors
    /// Those of [`succeeded`](Self::succeeded).
    pub async fn failed(&self, attempt: ThrottledAttempt) -> Result<(), ThrottleError> {
        let ThrottledAttempt { key, policy, id } = attempt;
        self.change(&key, &policy, |count, now| Ok(count.end(id, true, &policy, now))).await
    }

    /// Ends an attempt whose password was not checked, and removes it from the count.
    ///
    /// # Errors
    /// Those of [`succeeded`](Self::succeeded).
    pub async fn give_up(&self, attempt: ThrottledAttempt) -> Result<(), ThrottleError> {
        let ThrottledAttempt { key, policy, id } = attempt;
        self.change(&key, &policy, |count, _| Ok(count.give_up(id))).await
    }

    /// Counts an event without an outcome, such as a sent mail.
    ///
    /// # Errors
    /// [`ThrottleError::TooSoon`] if it has to wait; it is not counted then. [`ThrottleError::Counts`] if the bucket
    /// does not reply.
    pub async fn count(&self, key: &ThrottleKey, policy: &ThrottlePolicy) -> Result<(), ThrottleError> {
        let counted = self.change(key, policy, |count, now| {
            count.wait(policy, now).map_err(Denied::TooSoon)?;
            Ok(count.failed(policy, now))
        });
        counted.await
    }

    /// Adds a failure, also during a wait: for a key that is [checked](Self::check) before an attempt.
    ///
    /// # Errors
    /// Those of [`succeeded`](Self::succeeded).
    pub async fn add_failure(&self, key: &ThrottleKey, policy: &ThrottlePolicy) -> Result<(), ThrottleError> {
        self.change(key, policy, |count, now| Ok(count.failed(policy, now))).await
    }

    /// Clears all failures, after another proof.
    ///
    /// # Errors
    /// [`ExpiringError::Unavailable`] if the bucket does not reply.
    pub async fn clear(&self, key: &ThrottleKey) -> Result<(), ExpiringError> {
        self.recent.forget(&key.key);
        self.counts.remove(&key.key).await
    }

    /// Replaces a count by the result of `change`.
    async fn change(
        &self,
        key: &ThrottleKey,
        policy: &ThrottlePolicy,
        change: impl Fn(Count, u64) -> Result<Count, Denied>,
    ) -> Result<(), ThrottleError> {
        let turn = tokio::time::timeout(TURN_LIMIT, self.turn(key)).await;
        let _turn = turn.map_err(|_| ThrottleError::Busy)?;
        for tries in 0..TRIES {
            let entry = self.counts.read(&key.key).await?;
            let now = self.clock.unix_millis();
            let changed = match change(entry.record.unwrap_or_default(), now) {
                Ok(changed) => changed,
                Err(Denied::TooSoon(left)) => return Err(self.too_soon(key, left)),
                Err(Denied::Busy) => return Err(ThrottleError::Busy),
            };
            let wait = Duration::from_millis(changed.until.saturating_sub(now));
            let ttl = if changed.is_empty() { EMPTY_TTL } else { policy.memory.saturating_add(wait) };
            if self.counts.write(&key.key, &changed, entry.revision, ttl).await? {
                return Ok(());
            }
            // Another instance was faster. The random part avoids a second collision of the two.
            let pause = doubled(FIRST_PAUSE, tries, LONGEST_PAUSE);
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        }
        Err(ThrottleError::Busy)
    }

    async fn turn(&self, key: &ThrottleKey) -> MutexGuard<'_, ()> {
        // The remainder is below the number of stripes.
        let stripe = self.hasher.hash_one(&key.key) % STRIPES as u64;
        self.stripes[stripe as usize].lock().await
    }

    fn too_soon(&self, key: &ThrottleKey, retry_after: Duration) -> ThrottleError {
        self.recent.note(&key.key, retry_after, Instant::now());
        ThrottleError::TooSoon { retry_after }
    }
}

impl fmt::Debug for LoginThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginThrottle").field("counts", &self.counts).finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keyed hashes: without the pepper, an attacker cannot test addresses against them.
#[derive(Clone)]
struct Keyed(Hmac<Sha256>);

impl Keyed {
    fn new(pepper: &SecretKey) -> Self {
        // HMAC's key is a full block, zero-padded after the secret's digest: its length is always valid.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&Sha256::digest(pepper.as_bytes()));
        let mut keyed = Hmac::<Sha256>::new(&(*block).into());
        keyed.update(b"back-off\0");
        Self(keyed)
    }

    fn hash(&self, kind: &str, whose: &str) -> String {
        let mut keyed = self.0.clone();
        keyed.update(kind.as_bytes());
        keyed.update(b"\0");
        keyed.update(whose.as_bytes());
        URL_SAFE_NO_PAD.encode(keyed.finalize().into_bytes())
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::*;

    #[test]
    fn the_same_name_of_another_kind_or_pepper_is_another_key() {
        let keyed = |secret: &str| Keyed::new(&SecretKey::new("JWT_REFRESH_SECRET", secret).unwrap());
        let (one, other) = (keyed("correct horse battery staple, twice"), keyed("incorrect horse battery staple, 2"));
        let hash = one.hash("log-in", "ada@example.com");
        assert_eq!(hash.len(), 43);
        assert_eq!(hash, one.hash("log-in", "ada@example.com"));
        assert_ne!(hash, one.hash("reset", "ada@example.com"));
        assert_ne!(hash, other.hash("log-in", "ada@example.com"));
        assert!(!format!("{one:?}").contains("horse"));
    }

    #[test]
    fn failures_are_429_and_busy_is_503_and_both_say_when() {
        let too_soon = RpcError::from(ThrottleError::TooSoon { retry_after: Duration::from_secs(900) });
        let busy = RpcError::from(ThrottleError::Busy);
        assert_eq!((too_soon.code(), busy.code()), (Code::ResourceExhausted, Code::Unavailable));
        assert_eq!(too_soon.details().unwrap().get(), r#"{"retryAfterMs":900000}"#);
        assert_eq!(busy.details().unwrap().get(), r#"{"retryAfterMs":500}"#);
    }
}
