//! Password hashing with bcrypt, at the same cost for every login.

mod policy;
mod pool;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_rpc::RpcError;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

pub use self::policy::PasswordPolicy;
use self::pool::{HashPool, Turn};
pub use self::pool::{HashPriority, HashRequest};

const MIN_BYTES: usize = 8;
/// bcrypt reads 72 bytes, of which one is the terminating NUL.
const MAX_BYTES: usize = 71;
/// The maximum length of a password to verify, in bytes: passwords migrated from another system may be longer than
/// ours.
const MOST_BYTES: usize = 1_024;
/// The maximum number of bytes that bcrypt reads.
const BCRYPT_BYTES: usize = 72;
/// The permitted cost of new hashes. Cost 10 takes 60 ms of a core, and each step doubles it.
const COSTS: std::ops::RangeInclusive<u32> = 10..=15;
/// The permitted cost of stored hashes: a planted hash of cost 31 would occupy a core for a day and a half.
const STORED_COSTS: std::ops::RangeInclusive<u32> = 8..=15;

/// A password that can be hashed: 8 to 71 bytes after NFC normalisation, without NUL.
///
/// bcrypt would silently truncate a longer one and stop at a NUL. The type prints as `[redacted]`, and its memory is
/// overwritten when it is dropped.
///
/// ```
/// use nats_rpc_auth::{Password, PasswordError};
///
/// assert!(Password::parse("correct horse").is_ok());
/// assert_eq!(Password::parse("horse").unwrap_err(), PasswordError::TooShort);
/// assert_eq!(Password::parse(&"x".repeat(72)).unwrap_err(), PasswordError::TooLong);
/// ```
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

/// The reason why a password is rejected; the message is suitable for end users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// Under 8 bytes.
    #[error("a password has at least {MIN_BYTES} bytes")]
    TooShort,
    /// Over 71 bytes.
    #[error("a password has at most {MAX_BYTES} bytes")]
    TooLong,
    /// A NUL character.
    #[error("a password has no NUL character")]
    Nul,
    /// Fewer characters than the policy requires.
    #[error("a password has at least {at_least} characters")]
    #[non_exhaustive]
    TooFew {
        /// The required number of characters.
        at_least: usize,
    },
    /// One of the most common passwords, or derived from one.
    #[error("this password is one that many people have, and that is guessed first: choose another")]
    Common,
    /// Derived from the e-mail address, or from a word that the policy names.
    #[error("a password is not made of the e-mail address or the name of the service: choose another")]
    Personal,
    /// A repetition, a sequence of neighbours, or a stretch of the keyboard.
    #[error("a password is more than a repetition or a sequence such as 12345678: choose another")]
    Pattern,
}

impl PasswordError {
    /// Returns the reason as one word, for programs: the `reason` in the details of the 400.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooShort | Self::TooFew { .. } => "too_short",
            Self::TooLong => "too_long",
            Self::Nul => "nul",
            Self::Common => "common",
            Self::Personal => "personal",
            Self::Pattern => "pattern",
        }
    }
}

impl From<PasswordError> for RpcError {
    fn from(error: PasswordError) -> Self {
        #[derive(serde::Serialize)]
        struct Details {
            reason: &'static str,
        }
        Self::invalid_argument(error.to_string()).with_details(Details { reason: error.reason() })
    }
}

impl Password {
    /// Checks and normalises `password`.
    ///
    /// # Errors
    /// [`PasswordError`]; lengths are those after normalisation.
    pub fn parse(password: &str) -> Result<Self, PasswordError> {
        // NFC makes a string at most three times as long; a far longer one is rejected without normalising it.
        if password.len() > 4 * MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        // Reserves the full capacity, so that no partial copy stays behind in freed memory.
        let mut normal = Zeroizing::new(String::with_capacity(3 * password.len()));
        normal.extend(password.nfc());
        if normal.contains('\0') {
            return Err(PasswordError::Nul);
        }
        match normal.len() {
            ..MIN_BYTES => Err(PasswordError::TooShort),
            MIN_BYTES..=MAX_BYTES => Ok(Self(normal)),
            _ => Err(PasswordError::TooLong),
        }
    }

    /// Creates a password that an account already has, whatever its length, for hashing it again, as after a
    /// [migration](PasswordMatch::Migrated). `None` for an empty one, one with a NUL, or one of more than 1,024 bytes.
    ///
    /// bcrypt would truncate one of more than 71 bytes, so a digest of all its bytes is hashed instead.
    pub fn existing(password: &str) -> Option<Self> {
        if password.is_empty() || password.len() > MOST_BYTES || password.contains('\0') {
            return None;
        }
        let mut normal = Zeroizing::new(String::with_capacity(3 * password.len()));
        normal.extend(password.nfc());
        if normal.len() <= MAX_BYTES {
            return Some(Self(normal));
        }
        // The label prevents a plain SHA-256 of the password, leaked elsewhere, from being accepted as a password.
        let digest = Sha256::new().chain_update(b"nats-rpc long password\0").chain_update(normal.as_bytes()).finalize();
        Some(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(digest))))
    }

    /// Returns the possible bcrypt inputs for `password`: ours first, then that of a program that neither normalises
    /// nor rejects long passwords, such as Node's. Empty for a password that no account can have.
    fn candidates(password: &str) -> Vec<Zeroizing<Vec<u8>>> {
        let Some(own) = Self::existing(password) else { return Vec::new() };
        let mut candidates = vec![Zeroizing::new(own.0.as_bytes().to_vec())];
        if own.0.as_str() != password {
            let read = &password.as_bytes()[..password.len().min(BCRYPT_BYTES)];
            candidates.push(Zeroizing::new(read.to_vec()));
        }
        candidates
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password([redacted])")
    }
}

/// The cost of hashing, and its share of the machine.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PasswordConfig {
    cost: u32,
    workers: NonZeroUsize,
    queue: usize,
}

impl Default for PasswordConfig {
    /// Returns the defaults: cost 12, all cores but one (at least one), 128 waiting.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = NonZeroUsize::new(cores - 1).unwrap_or(NonZeroUsize::MIN);
        Self { cost: 12, workers, queue: 128 }
    }
}

impl PasswordConfig {
    /// Sets bcrypt's cost, clamped to 10..=15. Default: 12, about 235 ms of a core.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost.clamp(*COSTS.start(), *COSTS.end());
        self
    }

    /// Sets the number of passwords hashed concurrently. Default: all cores but one, at least one.
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets the number of requests that may wait. Default: 128. The next one gets a "busy" reply, or displaces one of
    /// the longest line of the least trusted class.
    pub fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }
}

/// The relation of a password to a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordMatch {
    /// The password does not match.
    Wrong,
    /// The password matches.
    Right,
    /// The password matches a hash by a program that neither normalises passwords nor rejects long ones, such as
    /// Node's bcrypt. Hash [the password](Password::existing) again.
    Migrated,
}

/// Hashes and verifies passwords on other threads than those that serve requests.
///
/// It has its own threads, which on Linux have a lower priority than others of the process, so that requests are
/// served first. Callers wait for a thread in a fair order, by [`HashRequest`], and no longer than the timeout of
/// their handler.
///
/// ```
/// use nats_rpc_auth::{Password, PasswordConfig, PasswordHasher};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let passwords = PasswordHasher::new(PasswordConfig::default().cost(10))?;
/// let hash = passwords.hash(Password::parse("correct horse")?).await?;
/// assert!(passwords.verify("correct horse", Some(&hash)).await?);
/// // An unknown user costs as much as a wrong password.
/// assert!(!passwords.verify("correct horse", None).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PasswordHasher(Arc<Hasher>);

#[derive(Debug)]
struct Hasher {
    cost: u32,
    /// A hash that matches no password, at the current cost.
    decoy: String,
    /// The highest cost so far, of a stored hash or the current one.
    dearest: AtomicU32,
    pool: HashPool,
}

impl PasswordHasher {
    /// Starts the thread pool.
    ///
    /// # Errors
    /// A 500 if the system returns no random numbers or no threads.
    pub fn new(config: PasswordConfig) -> Result<Self, RpcError> {
        let PasswordConfig { cost, workers, queue } = config;
        let expected = Duration::from_millis(60 << (cost - COSTS.start()));
        let pool = HashPool::new(workers, queue, expected).map_err(RpcError::internal)?;
        Ok(Self(Arc::new(Hasher { cost, decoy: decoy(cost)?, dearest: AtomicU32::new(cost), pool })))
    }

    /// Checks that `request` would get a thread in time if it were queued now: the cheapest of all checks.
    ///
    /// # Errors
    /// 503 "busy" if not; the details contain `retryAfterMs`.
    pub fn check(&self, request: &HashRequest) -> Result<(), RpcError> {
        self.0.pool.check(request)
    }

    /// Waits for a thread of the pool.
    ///
    /// Run cheap checks first: a caller that is rejected anyway takes a thread from others.
    ///
    /// # Errors
    /// 503 "busy", at once if the queue is full or its wait exceeds the deadline, else at the deadline; the details
    /// contain `retryAfterMs`.
    pub async fn admit(&self, request: &HashRequest) -> Result<HashPermit, RpcError> {
        Ok(HashPermit { turn: Some(self.0.pool.turn(request).await?), hasher: Arc::clone(&self.0) })
    }

    /// Returns a hash of `password` to store, 60 characters.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit); 500 if bcrypt fails.
    pub async fn hash(&self, password: Password) -> Result<String, RpcError> {
        self.admit(&HashRequest::new(HashPriority::Quiet)).await?.hash(password).await
    }

    /// Checks `password` against a stored hash; `None` for a user that does not exist.
    ///
    /// An empty password, one with a NUL character or one of more than 1,024 bytes is wrong at once, for every user.
    /// Otherwise an unknown user, and one with an unusable stored hash, cost as much as a wrong password, whatever the
    /// cost of its hash: all cost as much as the most expensive hash verified so far. A stored hash that is malformed,
    /// or of a cost outside 8..=15, matches no password and is an error in the log.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit).
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, RpcError> {
        let mut permit = self.admit(&HashRequest::new(HashPriority::Quiet)).await?;
        Ok(permit.verify(password, stored).await? != PasswordMatch::Wrong)
    }

    /// Returns `true` if a stored hash is well-formed and its cost is within the permitted range.
    pub fn is_usable(stored: &str) -> bool {
        is_usable(stored)
    }

    /// Returns `true` if a usable stored hash has a lower cost than new ones.
    pub fn is_weak(&self, stored: &str) -> bool {
        cost_of(stored).is_some_and(|cost| cost < self.0.cost)
    }
}

impl Hasher {
    /// Returns the hashes to verify in addition if `hash` does not match, so that the duration does not reveal that
    /// the account exists: after a cost of c, 2^c + 2^c + 2^(c+1) + … adds up to the highest cost.
    fn rest(&self, hash: &str) -> Vec<String> {
        let cost = cost_of(hash).unwrap_or(self.cost);
        let dearest = self.dearest.fetch_max(cost, Ordering::Relaxed).max(cost);
        (cost..dearest).map(|cost| at_cost(&self.decoy, cost)).collect()
    }
}

/// A permit to use a thread of the pool.
///
/// Drop it to release the thread. Until then the caller can record the outcome before the next caller gets the thread.
#[derive(Debug)]
#[must_use]
pub struct HashPermit {
    /// `None` while running work holds it, or after a panic of the work.
    turn: Option<Turn>,
    hasher: Arc<Hasher>,
}

impl HashPermit {
    /// Hashes like [`PasswordHasher::hash`].
    ///
    /// # Errors
    /// 500 if bcrypt fails.
    pub async fn hash(&mut self, password: Password) -> Result<String, RpcError> {
        let cost = self.hasher.cost;
        tracing::trace!(cost, "one bcrypt to hash");
        let hashed = self.run(move || bcrypt::non_truncating_hash(password.0.as_bytes(), cost)).await?;
        hashed.map_err(RpcError::internal)
    }

    /// Verifies like [`PasswordHasher::verify`], and also detects a hash made by another program.
    ///
    /// # Errors
    /// 500 if the work was lost.
    pub async fn verify(&mut self, password: &str, stored: Option<&str>) -> Result<PasswordMatch, RpcError> {
        let candidates = Password::candidates(password);
        if candidates.is_empty() {
            return Ok(PasswordMatch::Wrong);
        }
        let usable = match stored {
            Some(stored) if !is_usable(stored) => {
                tracing::error!(
                    "a stored password hash is malformed or of a cost out of bounds; nobody can log in with it"
                );
                None
            }
            usable => usable,
        };
        let known = usable.is_some();
        let hash = usable.unwrap_or(&self.hasher.decoy).to_owned();
        let rest = self.hasher.rest(&hash);
        tracing::trace!(cost = &hash[4..6], "one bcrypt to verify");
        let verified = move || {
            let verify = |candidate: &Zeroizing<Vec<u8>>, hash: &str| {
                bcrypt::verify(candidate.as_slice(), hash).unwrap_or(false)
            };
            matches(&candidates, &hash, &rest, verify)
        };
        Ok(match self.run(verified).await? {
            Some(0) if known => PasswordMatch::Right,
            Some(_) if known => PasswordMatch::Migrated,
            _ => PasswordMatch::Wrong,
        })
    }

    async fn run<T: Send + 'static>(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, RpcError> {
        let turn = self.turn.take().ok_or_else(|| RpcError::internal("the turn of this permit is lost"))?;
        let (done, turn) = self.hasher.pool.run(turn, work).await?;
        self.turn = Some(turn);
        Ok(done)
    }
}

/// Returns the index of the candidate that `verify` matches to `hash`; if none matches, each is also verified against
/// the rest.
fn matches<T>(candidates: &[T], hash: &str, rest: &[String], verify: impl Fn(&T, &str) -> bool) -> Option<usize> {
    let matches = candidates.iter().position(|candidate| verify(candidate, hash));
    if matches.is_none() {
        for (decoy, candidate) in rest.iter().flat_map(|decoy| candidates.iter().map(move |it| (decoy, it))) {
            std::hint::black_box(verify(candidate, decoy));
        }
    }
    matches
}

/// Returns `true` if bcrypt can verify a stored hash at a permitted cost.
fn is_usable(stored: &str) -> bool {
    // bcrypt itself accepts a cost of "+4".
    let cost = stored.as_bytes().get(4..6);
    cost.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
        && cost_of(stored).is_some_and(|cost| STORED_COSTS.contains(&cost))
}

fn cost_of(hash: &str) -> Option<u32> {
    Some(hash.parse::<bcrypt::HashParts>().ok()?.get_cost())
}

/// Returns the decoy with its cost replaced by `cost`; its own cost has two digits as well.
fn at_cost(decoy: &str, cost: u32) -> String {
    format!("{}{cost:02}{}", &decoy[..4], &decoy[6..])
}

/// Creates a hash of an unknown password. Its digest is that of another cost, so that no password matches, and
/// creating it does not take 235 ms.
fn decoy(cost: u32) -> Result<String, RpcError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| RpcError::internal(error.to_string()))?;
    let cheap = bcrypt::hash(random, 4).map_err(RpcError::internal)?;
    Ok(at_cost(&cheap, cost))
}

#[cfg(test)]
mod tests;
