//! Passwords: hashed with bcrypt, at a price that is the same for everyone who logs in.

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
/// The longest password that is verified: one of another system may be longer than ours are.
const MOST_BYTES: usize = 1_024;
/// The bytes that bcrypt reads, at most.
const BCRYPT_BYTES: usize = 72;
/// What new hashes may cost. 10 takes 60 ms of a core, each step twice the one before.
const COSTS: std::ops::RangeInclusive<u32> = 10..=15;
/// What a stored hash may cost: one of 31, planted, would hold a core for a day and a half.
const STORED_COSTS: std::ops::RangeInclusive<u32> = 8..=15;

/// A password that can be hashed: 8 to 71 bytes after NFC normalisation, without NUL.
///
/// bcrypt would cut a longer one silently and stop at a NUL. It prints as `[redacted]` and its memory is
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

/// Why a string cannot be a password; the message is fit for the person choosing it.
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
    /// Fewer characters than the policy asks for.
    #[error("a password has at least {at_least} characters")]
    #[non_exhaustive]
    TooFew {
        /// How many it asks for.
        at_least: usize,
    },
    /// One of the most used, or made of one.
    #[error("this password is one that many people have, and that is guessed first: choose another")]
    Common,
    /// Made of the e-mail address, or of a word that the policy names.
    #[error("a password is not made of the e-mail address or the name of the service: choose another")]
    Personal,
    /// Repetition, a run of neighbours, or a stretch of the keyboard.
    #[error("a password is more than a repetition or a sequence such as 12345678: choose another")]
    Pattern,
}

impl PasswordError {
    /// What is wrong in one word, for programs: the `reason` in the details of the 400.
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
    /// [`PasswordError`], as its variants say; lengths are those after normalisation.
    pub fn parse(password: &str) -> Result<Self, PasswordError> {
        // NFC makes a string at most three times as long; what is far too long is not worth it.
        if password.len() > 4 * MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        // Room for the whole, so that no half-filled buffer stays behind in freed memory.
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

    /// A password that an account has already, whatever its length: to hash it anew, as after a
    /// [migration](PasswordMatch::Migrated). `None` for an empty one, one with a NUL, or one of more than 1,024 bytes.
    ///
    /// bcrypt would cut one of more than 71 bytes, so a digest of all its bytes is hashed in its place.
    pub fn existing(password: &str) -> Option<Self> {
        if password.is_empty() || password.len() > MOST_BYTES || password.contains('\0') {
            return None;
        }
        let mut normal = Zeroizing::new(String::with_capacity(3 * password.len()));
        normal.extend(password.nfc());
        if normal.len() <= MAX_BYTES {
            return Some(Self(normal));
        }
        // The label keeps a plain SHA-256 of the password, known from elsewhere, from being another password.
        let digest = Sha256::new().chain_update(b"nats-rpc long password\0").chain_update(normal.as_bytes()).finalize();
        Some(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(digest))))
    }

    /// The inputs of bcrypt that `password` may stand for: ours first, then that of a program that neither normalises
    /// nor rejects long passwords, as Node's. Empty for a password that no account can have.
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

/// What hashing costs and how much of the machine it may take.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct PasswordConfig {
    cost: u32,
    workers: NonZeroUsize,
    queue: usize,
}

impl Default for PasswordConfig {
    /// Cost 12, all cores but one (at least one), 128 waiting.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = NonZeroUsize::new(cores - 1).unwrap_or(NonZeroUsize::MIN);
        Self { cost: 12, workers, queue: 128 }
    }
}

impl PasswordConfig {
    /// Sets bcrypt's cost, held to 10..=15. Default: 12, about 235 ms of a core.
    pub fn cost(mut self, cost: u32) -> Self {
        self.cost = cost.clamp(*COSTS.start(), *COSTS.end());
        self
    }

    /// Sets how many passwords are hashed at once. Default: all cores but one, at least one.
    pub fn workers(mut self, workers: NonZeroUsize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets how many more may wait. Default: 128. The next is answered "busy", or takes the place of one of the
    /// longest line of the least trusted class.
    pub fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }
}

/// The relation of a password to a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordMatch {
    /// It is another password.
    Wrong,
    /// It is the password of the hash.
    Right,
    /// It is the password of the hash, which a program made that neither normalises passwords nor refuses long ones,
    /// such as one with Node's bcrypt. Hash [the password](Password::existing) anew.
    Migrated,
}

/// Hashes and verifies passwords beside the workers that serve requests.
///
/// It has threads of its own, which on Linux give way to others of the process: what serves requests runs first.
/// Callers wait for one in a fair order, by [`HashRequest`], and no longer than their handler may take.
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
    /// A hash that no password has, at the current cost.
    decoy: String,
    /// The highest cost that was met so far, of a stored hash or the current one.
    dearest: AtomicU32,
    pool: HashPool,
}

impl PasswordHasher {
    /// Starts the pool.
    ///
    /// # Errors
    /// A 500 if the system gives no random numbers or no threads.
    pub fn new(config: PasswordConfig) -> Result<Self, RpcError> {
        let PasswordConfig { cost, workers, queue } = config;
        let expected = Duration::from_millis(60 << (cost - COSTS.start()));
        let pool = HashPool::new(workers, queue, expected).map_err(RpcError::internal)?;
        Ok(Self(Arc::new(Hasher { cost, decoy: decoy(cost)?, dearest: AtomicU32::new(cost), pool })))
    }

    /// Checks that `request` would get a turn in time if it asked now: the cheapest of all checks.
    ///
    /// # Errors
    /// 503 "busy" if not; the details say `retryAfterMs`.
    pub fn check(&self, request: &HashRequest) -> Result<(), RpcError> {
        self.0.pool.check(request)
    }

    /// Waits for a turn at the pool.
    ///
    /// Do the cheap checks before: a caller that is refused anyway takes a turn from others.
    ///
    /// # Errors
    /// 503 "busy", at once where the queue is full or longer than the deadline, else when that has come; the details
    /// say `retryAfterMs`.
    pub async fn admit(&self, request: &HashRequest) -> Result<HashPermit, RpcError> {
        Ok(HashPermit { turn: Some(self.0.pool.turn(request).await?), hasher: Arc::clone(&self.0) })
    }

    /// A hash of `password`, 60 characters, to store.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit); 500 if bcrypt fails.
    pub async fn hash(&self, password: Password) -> Result<String, RpcError> {
        self.admit(&HashRequest::new(HashPriority::Quiet)).await?.hash(password).await
    }

    /// Whether `password` is the one of the stored hash; `None` for a user that does not exist.
    ///
    /// An empty password, one with a NUL character or one of more than 1,024 bytes is wrong at once, whoever's it is.
    /// Otherwise an unknown user, and one whose stored hash cannot be used, cost as much as a wrong password, at
    /// whichever cost that was stored: all cost what the dearest does that was verified so far. A stored hash that is
    /// malformed, or of a cost outside 8..=15, is nobody's password and an error in the log.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit).
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, RpcError> {
        let mut permit = self.admit(&HashRequest::new(HashPriority::Quiet)).await?;
        Ok(permit.verify(password, stored).await? != PasswordMatch::Wrong)
    }

    /// Whether a stored hash can be anybody's: well-formed, and of a cost that does not ruin.
    pub fn is_usable(stored: &str) -> bool {
        is_usable(stored)
    }

    /// Whether a stored hash, usable as it is, costs less than new ones do.
    pub fn is_weak(&self, stored: &str) -> bool {
        cost_of(stored).is_some_and(|cost| cost < self.0.cost)
    }
}

impl Hasher {
    /// What is to be verified as well where `hash` is not the password's, so that its cost does not tell that it
    /// is there: after a cost of c, 2^c + 2^c + 2^(c+1) + … adds up to the dearest.
    fn rest(&self, hash: &str) -> Vec<String> {
        let cost = cost_of(hash).unwrap_or(self.cost);
        let dearest = self.dearest.fetch_max(cost, Ordering::Relaxed).max(cost);
        (cost..dearest).map(|cost| at_cost(&self.decoy, cost)).collect()
    }
}

/// A turn at the pool.
///
/// It ends when the permit is dropped, so that what came of it can be counted before the next caller's turn.
#[derive(Debug)]
#[must_use]
pub struct HashPermit {
    /// `None` while work runs that has it, or that lost it by a panic.
    turn: Option<Turn>,
    hasher: Arc<Hasher>,
}

impl HashPermit {
    /// As [`PasswordHasher::hash`].
    ///
    /// # Errors
    /// 500 if bcrypt fails.
    pub async fn hash(&mut self, password: Password) -> Result<String, RpcError> {
        let cost = self.hasher.cost;
        tracing::trace!(cost, "one bcrypt to hash");
        let hashed = self.run(move || bcrypt::non_truncating_hash(password.0.as_bytes(), cost)).await?;
        hashed.map_err(RpcError::internal)
    }

    /// As [`PasswordHasher::verify`], and whether the hash was made by another program.
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

/// Returns the index of the candidate that `verify` finds to be of `hash`; if none is, each is verified against the
/// rest as well.
fn matches<T>(candidates: &[T], hash: &str, rest: &[String], verify: impl Fn(&T, &str) -> bool) -> Option<usize> {
    let matches = candidates.iter().position(|candidate| verify(candidate, hash));
    if matches.is_none() {
        for (decoy, candidate) in rest.iter().flat_map(|decoy| candidates.iter().map(move |it| (decoy, it))) {
            std::hint::black_box(verify(candidate, decoy));
        }
    }
    matches
}

/// Whether bcrypt may be let loose on a stored hash.
fn is_usable(stored: &str) -> bool {
    // bcrypt itself reads a cost of "+4".
    let cost = stored.as_bytes().get(4..6);
    cost.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
        && cost_of(stored).is_some_and(|cost| STORED_COSTS.contains(&cost))
}

fn cost_of(hash: &str) -> Option<u32> {
    Some(hash.parse::<bcrypt::HashParts>().ok()?.get_cost())
}

/// The decoy, as if it had been made at `cost`; its own is two digits as well.
fn at_cost(decoy: &str, cost: u32) -> String {
    format!("{}{cost:02}{}", &decoy[..4], &decoy[6..])
}

/// A hash of an unknown password. Its digest is that of another cost, so no password at all has it, and it
/// takes no 235 ms to make.
fn decoy(cost: u32) -> Result<String, RpcError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| RpcError::internal(error.to_string()))?;
    let cheap = bcrypt::hash(random, 4).map_err(RpcError::internal)?;
    Ok(at_cost(&cheap, cost))
}

#[cfg(test)]
mod tests;
