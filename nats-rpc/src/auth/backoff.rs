//! How soon one may try again, the later the more attempts failed; shared by all instances.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::doubled::doubled;
use super::expiring::{Expiring, ExpiringError};
use crate::connection::Connection;
use crate::error::RpcError;
use crate::jwt::{Clock, SecretKey};

const BUCKET: &str = "auth_backoff";
/// How often an attempt that lost a race for its count is tried anew. Who loses more often is one of many
/// that try at the same moment, and waits like those that failed.
const TRIES: usize = 5;

/// Counts attempts that fail, per account or per source, and says how long the next one has to wait.
///
/// An attempt is counted **before** it is looked at and taken back when it succeeds, so that a hundred
/// attempts at once are a hundred attempts, whichever instances they reach. While one has to wait, nothing
/// is looked at: the right password does not get in either, and an attempt that comes too soon does not
/// prolong the wait. Nothing is locked for good: waits end, counts are forgotten, and what a count
/// belongs to need not exist, so the answer does not tell whether it does.
///
/// Counts are in the KV bucket `auth_backoff` under keyed hashes, written by compare-and-set. Each attempt
/// costs one read and one write.
///
/// ```no_run
/// use nats_rpc::SecretKey;
/// use nats_rpc::auth::{Backoff, BackoffRule};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let pepper = SecretKey::from_vars("JWT_REFRESH_SECRET", |name| std::env::var(name).ok())?;
/// let backoff = Backoff::open(&connection, &pepper).await?;
/// let account = backoff.key("log-in", "ada@example.com");
/// backoff.begin(&account, &BackoffRule::ACCOUNT).await?;
/// // … the password is right:
/// backoff.clear(&account).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backoff {
    counts: Expiring<Count>,
    keyed: Keyed,
    clock: Clock,
}

/// From which failure on one waits, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackoffRule {
    /// The failure that is the first to be followed by a wait.
    pub from: u32,
    /// That wait; each further one is twice as long.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// After how long without a failure, beyond the wait, all is forgotten.
    pub memory: Duration,
}

impl BackoffRule {
    /// For an account: 1 s after the fifth failure, doubling to 15 min; forgotten after an hour.
    pub const ACCOUNT: Self = Self {
        from: 5,
        first: Duration::from_secs(1),
        longest: Duration::from_mins(15),
        memory: Duration::from_hours(1),
    };
    /// For a source, behind which may be an office: 1 s after the twentieth failure, doubling to 1 min;
    /// forgotten after 15 min.
    pub const SOURCE: Self = Self {
        from: 20,
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        memory: Duration::from_mins(15),
    };

    /// The wait that follows a failure, the how-manieth it is.
    fn wait(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(self.from) else { return Duration::ZERO };
        doubled(self.first, doublings, self.longest)
    }
}

/// What attempts are counted under: a kind of attempt, and whose it is as a keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackoffKey {
    key: String,
    hash_at: usize,
}

impl BackoffKey {
    /// The keyed hash alone, 43 characters; it tells nobody what was hashed.
    pub fn hash(&self) -> &str {
        &self.key[self.hash_at..]
    }
}

/// Why an attempt is not looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackoffError {
    /// Too many before it failed.
    #[error("too many attempts failed: try again later")]
    #[non_exhaustive]
    TooSoon {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The counts cannot be read or written; without them, nothing bounds guessing.
    #[error(transparent)]
    Counts(#[from] ExpiringError),
}

impl BackoffError {
    /// How long to wait, in milliseconds, if that is what is wrong.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::TooSoon { retry_after } => Some(millis(*retry_after)),
            Self::Counts(_) => None,
        }
    }
}

/// 429 with `{"retryAfterMs": …}` as details, or 503.
impl From<BackoffError> for RpcError {
    fn from(error: BackoffError) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Details {
            retry_after_ms: u64,
        }
        match error {
            BackoffError::TooSoon { retry_after } => {
                Self::resource_exhausted("too many attempts failed: try again later")
                    .with_details(Details { retry_after_ms: millis(retry_after) })
            }
            BackoffError::Counts(error) => error.into(),
        }
    }
}

/// Times in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Count {
    failures: u32,
    until: u64,
}

impl Count {
    /// The count with one attempt more, or how long to wait for it.
    fn attempt(self, rule: &BackoffRule, now: u64) -> Result<Self, Duration> {
        // A clock that was ahead must not lock anybody out for longer than the rule does.
        let left = Duration::from_millis(self.until.saturating_sub(now)).min(rule.longest);
        if !left.is_zero() {
            return Err(left);
        }
        let failures = self.failures.saturating_add(1);
        Ok(Self { failures, until: now.saturating_add(millis(rule.wait(failures))) })
    }
}

impl Backoff {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or brings an existing one to that form.
    ///
    /// # Errors
    /// [`ExpiringError::Provision`] if the server refuses, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), ExpiringError> {
        Expiring::<Count>::provision(jetstream, BUCKET, "attempts that failed, by keyed hash", replicas).await
    }

    /// Opens the bucket; `pepper` keys the hashes and is the same for all instances.
    ///
    /// # Errors
    /// [`ExpiringError::Bucket`] if it was not provisioned or cannot be asked, [`ExpiringError::NoTtl`] if it
    /// was made without limit markers.
    pub async fn open(connection: &Connection, pepper: &SecretKey) -> Result<Self, ExpiringError> {
        let counts = Expiring::open(connection, BUCKET).await?;
        Ok(Self { counts, keyed: Keyed::new(pepper), clock: Clock::default() })
    }

    /// Takes the time from `now` rather than from the system; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// What attempts of a kind by, or at, `whose` are counted under.
    pub fn key(&self, kind: &'static str, whose: &str) -> BackoffKey {
        let hash = self.keyed.hash(kind, whose);
        BackoffKey { hash_at: kind.len() + 1, key: format!("{kind}.{hash}") }
    }

    /// Counts an attempt as failed, before it is looked at.
    ///
    /// # Errors
    /// [`BackoffError::TooSoon`] if it must not be looked at; it was not counted then.
    /// [`BackoffError::Counts`] if the bucket does not answer.
    pub async fn begin(&self, key: &BackoffKey, rule: &BackoffRule) -> Result<(), BackoffError> {
        for _ in 0..TRIES {
            let entry = self.counts.read(&key.key).await?;
            let now = self.clock.unix_millis();
            let counted = entry.record.unwrap_or_default().attempt(rule, now);
            let counted = counted.map_err(|retry_after| BackoffError::TooSoon { retry_after })?;
            let ttl = rule.memory + Duration::from_millis(counted.until.saturating_sub(now));
            if self.counts.write(&key.key, &counted, entry.revision, ttl).await? {
                return Ok(());
            }
        }
        Err(BackoffError::TooSoon { retry_after: rule.first })
    }

    /// Forgets all failures: the right password came, or another proof.
    ///
    /// # Errors
    /// [`ExpiringError::Unavailable`] if the bucket does not answer.
    pub async fn clear(&self, key: &BackoffKey) -> Result<(), ExpiringError> {
        self.counts.remove(&key.key).await
    }

    /// Takes the one attempt back that succeeded, and leaves those that failed.
    ///
    /// For a source: who owns one account must not be able to erase the guesses at others.
    ///
    /// # Errors
    /// [`ExpiringError::Unavailable`] if the bucket does not answer.
    pub async fn forgive(&self, key: &BackoffKey, rule: &BackoffRule) -> Result<(), ExpiringError> {
        for _ in 0..TRIES {
            let entry = self.counts.read(&key.key).await?;
            let Some(Count { failures, .. }) = entry.record else { return Ok(()) };
            let count = Count { failures: failures.saturating_sub(1), until: 0 };
            if self.counts.write(&key.key, &count, entry.revision, rule.memory).await? {
                return Ok(());
            }
        }
        // One failure too many is on the count, for as long as it lives.
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Hashes that nobody without the pepper can try addresses against.
#[derive(Clone)]
struct Keyed(Hmac<Sha256>);

impl Keyed {
    fn new(pepper: &SecretKey) -> Self {
        // HMAC's key is a whole block, zero beyond the secret's digest: a length that cannot be wrong.
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
    use super::*;

    #[test]
    fn one_waits_from_the_fifth_failure_on_twice_as_long_each_time_and_never_for_ever() {
        let waits: Vec<u64> = (1..=20).map(|failures| BackoffRule::ACCOUNT.wait(failures).as_secs()).collect();
        assert_eq!(waits[..8], [0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(waits[13..], [512, 900, 900, 900, 900, 900, 900]);
        assert_eq!(BackoffRule::ACCOUNT.wait(u32::MAX), BackoffRule::ACCOUNT.longest);
    }

    #[test]
    fn what_comes_too_soon_is_refused_and_does_not_prolong_the_wait() {
        let rule = BackoffRule::ACCOUNT;
        let mut count = Count::default();
        for _ in 0..5 {
            count = count.attempt(&rule, 1_000_000).unwrap();
        }
        for now in [1_000_000, 1_000_999] {
            assert_eq!(count.attempt(&rule, now).unwrap_err(), Duration::from_millis(1_001_000 - now));
        }
        count = count.attempt(&rule, 1_001_000).unwrap();
        assert_eq!(count.attempt(&rule, 1_001_000).unwrap_err(), Duration::from_secs(2));
    }

    #[test]
    fn a_clock_that_was_ahead_locks_nobody_out_for_longer_than_the_rule() {
        let count = Count { failures: 5, until: u64::MAX };
        assert_eq!(count.attempt(&BackoffRule::ACCOUNT, 0).unwrap_err(), BackoffRule::ACCOUNT.longest);
    }

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
}
