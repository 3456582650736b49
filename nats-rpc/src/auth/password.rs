//! Passwords: hashed with bcrypt, at a price that is the same for everyone who logs in.

mod policy;
mod pool;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, Ordering};

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

pub use self::policy::PasswordPolicy;
use self::pool::{HashPool, Room};
use crate::error::RpcError;

const MIN_BYTES: usize = 8;
/// bcrypt reads 72 bytes, of which one is the terminating NUL.
const MAX_BYTES: usize = 71;
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
/// use nats_rpc::auth::{Password, PasswordError};
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
    /// Cost 12, all cores but one (at least one), 32 waiting.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = NonZeroUsize::new(cores - 1).unwrap_or(NonZeroUsize::MIN);
        Self { cost: 12, workers, queue: 32 }
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

    /// Sets how many more may wait. Default: 32; the next is answered "busy".
    pub fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }
}

/// Hashes and verifies passwords beside the workers that serve requests.
///
/// It has threads of its own, which on Linux give way to others of the process: what serves requests runs first.
/// Who waits for one waits no longer than the caller of its handler does; the place is free then.
///
/// ```
/// use nats_rpc::auth::{Password, PasswordConfig, Passwords};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let passwords = Passwords::new(PasswordConfig::default().cost(10))?;
/// let hash = passwords.hash(Password::parse("correct horse")?).await?;
/// assert!(passwords.verify("correct horse", Some(&hash)).await?);
/// // An unknown user costs as much as a wrong password.
/// assert!(!passwords.verify("correct horse", None).await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Passwords {
    cost: u32,
    /// A hash that no password has, at the current cost.
    decoy: String,
    /// The highest cost that was met so far, of a stored hash or the current one.
    dearest: AtomicU32,
    pool: HashPool,
}

impl Passwords {
    /// Starts the pool.
    ///
    /// # Errors
    /// A 500 if the system gives no random numbers or no threads.
    pub fn new(config: PasswordConfig) -> Result<Self, RpcError> {
        let PasswordConfig { cost, workers, queue } = config;
        let pool = HashPool::new(workers, queue).map_err(RpcError::internal)?;
        Ok(Self { cost, decoy: decoy(cost)?, dearest: AtomicU32::new(cost), pool })
    }

    /// Takes a place in the pool before anything else is done for a caller.
    ///
    /// What is asked of a database for those that will be refused anyway is work that a flood could
    /// multiply; with a place first, no more callers than the pool holds cost anything.
    ///
    /// # Errors
    /// 429 "busy" if as many as the queue holds are waiting; the details say `retryAfterMs`.
    pub fn admit(&self) -> Result<Admitted<'_>, RpcError> {
        Ok(Admitted { passwords: self, room: self.pool.room()? })
    }

    /// A hash of `password`, 60 characters, to store.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit); 500 if bcrypt fails.
    pub async fn hash(&self, password: Password) -> Result<String, RpcError> {
        self.admit()?.hash(password).await
    }

    /// Whether `password` is the one of the stored hash; `None` for a user that does not exist.
    ///
    /// A password that could never have been chosen is wrong at once, whoever's it is. Otherwise an
    /// unknown user, and one whose stored hash cannot be used, cost as much as a wrong password, at whichever
    /// cost that was stored: all cost what the dearest does that was verified so far. A stored hash that is
    /// malformed, or of a cost outside 8..=15, is nobody's password and an error in the log.
    ///
    /// # Errors
    /// Those of [`admit`](Self::admit).
    pub async fn verify(&self, password: &str, stored: Option<&str>) -> Result<bool, RpcError> {
        self.admit()?.verify(password, stored).await
    }

    /// Whether a stored hash can be anybody's: well-formed, and of a cost that does not ruin.
    pub fn is_usable(stored: &str) -> bool {
        is_usable(stored)
    }

    /// Whether a stored hash, usable as it is, costs less than new ones do.
    pub fn is_weak(&self, stored: &str) -> bool {
        cost_of(stored).is_some_and(|cost| cost < self.cost)
    }

    /// What is to be verified as well where `hash` is not the password's, so that its cost does not tell that it
    /// is there: after a cost of c, 2^c + 2^c + 2^(c+1) + … adds up to the dearest.
    fn rest(&self, hash: &str) -> Vec<String> {
        let cost = cost_of(hash).unwrap_or(self.cost);
        let dearest = self.dearest.fetch_max(cost, Ordering::Relaxed).max(cost);
        (cost..dearest).map(|cost| at_cost(&self.decoy, cost)).collect()
    }
}

/// A caller with a place in the pool, good for one password.
#[derive(Debug)]
#[must_use]
pub struct Admitted<'a> {
    passwords: &'a Passwords,
    room: Room,
}

impl Admitted<'_> {
    /// As [`Passwords::hash`].
    ///
    /// # Errors
    /// 500 if bcrypt fails.
    pub async fn hash(self, password: Password) -> Result<String, RpcError> {
        let Passwords { cost, ref pool, .. } = *self.passwords;
        tracing::trace!(cost, "one bcrypt to hash");
        let hashed = pool.run(self.room, move || bcrypt::non_truncating_hash(password.0.as_bytes(), cost)).await?;
        hashed.map_err(RpcError::internal)
    }

    /// As [`Passwords::verify`].
    ///
    /// # Errors
    /// 500 if the work was lost.
    pub async fn verify(self, password: &str, stored: Option<&str>) -> Result<bool, RpcError> {
        let Ok(password) = Password::parse(password) else {
            return Ok(false);
        };
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
        let Passwords { decoy, pool, .. } = self.passwords;
        let hash = usable.unwrap_or(decoy).to_owned();
        let rest = self.passwords.rest(&hash);
        tracing::trace!(cost = &hash[4..6], "one bcrypt to verify");
        let verified =
            move || matches(&hash, &rest, |hash| bcrypt::verify(password.0.as_bytes(), hash).unwrap_or(false));
        Ok(pool.run(self.room, verified).await? && known)
    }
}

/// What `verify` says of `hash`; if it is no match, it has the rest to do as well.
fn matches(hash: &str, rest: &[String], verify: impl Fn(&str) -> bool) -> bool {
    let matches = verify(hash);
    if !matches {
        for decoy in rest {
            std::hint::black_box(verify(decoy));
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
