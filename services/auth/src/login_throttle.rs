//! Login throttling: limits guesses per account, device, source and network, and across all unproven callers.
//!
//! `docs/auth.md` describes the design: the counters, their keys, and their order.

mod networks;
mod sign_ups;

use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use nats_rpc::RpcError;
use nats_rpc_auth::{
    Audit, AuditEvent, Device, Email, HashPriority, HashRequest, LoginThrottle, ThrottleError, ThrottleKey,
    ThrottlePolicy, ThrottledAttempt,
};
use serde::Serialize;
use tokio::sync::Semaphore;

use self::networks::{Networks, Size};
use self::sign_ups::SignUps;
use crate::account::AccountKey;
use crate::caller::Caller;
use crate::config::RateLimits;
use crate::rate::RateLimit;

/// Counter kind of password attempts, both log-ins and password changes.
const PASSWORD: &str = "password";
const DEVICE: &str = "device";
const RESET: &str = "reset";
const SOURCE: &str = "source";
const RESET_SOURCE: &str = "reset_source";
/// Range of the pause of an attempt that waits for others at the same account, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 30..120;
/// The maximum number of attempts that wait that way.
const MOST_WAITING: usize = 32;
/// Name of an account in audit events.
const ACCOUNT: &str = "account";

/// Policy of a device: as for an account, but remembered as long as a device token can live.
const OF_DEVICE: ThrottlePolicy = {
    let mut policy = ThrottlePolicy::ACCOUNT;
    policy.memory = Duration::from_hours(400 * 24);
    policy
};
/// Number of consecutive failures after which a device counts as unknown: its token may be stolen.
const DEVICE_FAILURES: u32 = 20;

/// Limits the rate of password and address guesses, and of mails.
#[derive(Debug)]
pub(crate) struct Throttle {
    counts: LoginThrottle,
    unproven: RateLimit,
    sign_ups: SignUps,
    /// Permits of attempts that wait for others at the same account, so that they do not fill the service.
    waiting: Semaphore,
    audit: Audit,
}

/// A password attempt that passed the cheap checks; it has changed nothing yet.
#[derive(Debug)]
pub(crate) struct Attempt {
    name: String,
    caller: Caller,
    /// The counter of the account, or of the known device.
    key: ThrottleKey,
    policy: ThrottlePolicy,
    /// The counters of the networks that the caller is in.
    networks: Vec<(ThrottleKey, ThrottlePolicy)>,
    /// `true` for a known device: failures of others at its account or in its networks do not throttle it.
    known: bool,
    request: HashRequest,
}

impl Throttle {
    pub(crate) fn new(counts: LoginThrottle, limits: RateLimits, audit: Audit) -> Self {
        let RateLimits { sign_ups, log_ins } = limits;
        let (unproven, sign_ups) = (RateLimit::per_minute(log_ins), SignUps::per_minute(sign_ups));
        Self { counts, unproven, sign_ups, waiting: Semaphore::new(MOST_WAITING), audit }
    }

    /// Returns the place in the hashing queue of a caller without recent failures.
    pub(crate) fn request(&self, caller: &Caller, device: Option<&Device>) -> HashRequest {
        match (&caller.source, device) {
            (Some(source), _) => request(HashPriority::Quiet, &Networks::of(source), caller),
            (None, Some(device)) => {
                HashRequest::new(HashPriority::Quiet).source(DEVICE, device.id()).deadline(caller.deadline())
            }
            (None, None) => HashRequest::new(HashPriority::Unproven).deadline(caller.deadline()),
        }
    }

    /// Checks whether a password of the account [named](name_of) `name` may be tried now, even if there is no such
    /// account. This writes nothing; `device` is known to the account.
    ///
    /// # Errors
    /// 429 after too many failures, with the time to wait as `retryAfterMs`; 503 if the counters cannot be read.
    pub(crate) async fn attempt(
        &self,
        name: &str,
        caller: &Caller,
        device: Option<&Device>,
    ) -> Result<Attempt, RpcError> {
        let checked = async {
            let networks = caller.source.as_deref().map(Networks::of);
            let counted = networks.as_ref().map(|networks| self.networks(SOURCE, networks)).unwrap_or_default();
            let attempt = |key, policy, known, request| {
                let (name, caller) = (name.to_owned(), caller.clone());
                Attempt { name, caller, key, policy, networks: counted.clone(), known, request }
            };
            if let Some(device) = device {
                let key = self.counts.key(DEVICE, &device.id());
                match self.counts.check(&key, &OF_DEVICE).await {
                    Ok(failures) if failures < DEVICE_FAILURES => {
                        return Ok(attempt(key, OF_DEVICE, true, self.request(caller, Some(device))));
                    }
                    // A throttled device counts as unknown: a stolen token must not lock out its owner.
                    Ok(_) | Err(ThrottleError::TooSoon { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // Sources come first: a caller that sprays one password over many accounts then touches no further
            // account.
            let request = match &networks {
                Some(networks) => {
                    let noisy = self.check_networks(&counted).await?;
                    request(if noisy { HashPriority::Noisy } else { HashPriority::Quiet }, networks, caller)
                }
                None => {
                    self.unproven.admit(Instant::now()).map_err(Refused::Shared)?;
                    self.request(caller, None)
                }
            };
            let key = self.counts.key(PASSWORD, name);
            self.counts.check(&key, &ThrottlePolicy::ACCOUNT).await?;
            Ok(attempt(key, ThrottlePolicy::ACCOUNT, false, request))
        };
        checked.await.map_err(|refused: Refused| {
            self.tell(PASSWORD, name, caller, &refused);
            refused.into()
        })
    }

    /// Begins an attempt whose password is checked next; `None` while concurrent attempts could use all failures that
    /// are left.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub(crate) async fn begin(&self, attempt: &Attempt) -> Result<Option<ThrottledAttempt>, RpcError> {
        let begun = async {
            if !attempt.known {
                // Checks again: others of the same networks may have failed while this attempt waited.
                self.check_networks(&attempt.networks).await?;
            }
            self.counts.begin(&attempt.key, &attempt.policy).await
        };
        match begun.await {
            Ok(begun) => Ok(Some(begun)),
            Err(ThrottleError::Busy) => Ok(None),
            Err(error) => {
                let refused = Refused::Throttle(error);
                self.tell(PASSWORD, &attempt.name, &attempt.caller, &refused);
                Err(refused.into())
            }
        }
    }

    /// Pauses for the attempts in progress at the same account.
    ///
    /// # Errors
    /// 503 "busy" if too many attempts wait, or the deadline comes first.
    pub(crate) async fn wait_for_others(&self, caller: &Caller) -> Result<(), RpcError> {
        let pause = Duration::from_millis(fastrand::u64(PAUSE_MS));
        let waits = self.waiting.try_acquire().ok().filter(|_| Instant::now() + pause < caller.deadline());
        let _waits = waits.ok_or(ThrottleError::Busy)?;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Ends an attempt with the right password. If the write fails, the attempt counts as failed, but the call does
    /// not fail.
    pub(crate) async fn succeeded(&self, begun: ThrottledAttempt) {
        log_failed_write(self.counts.succeeded(begun).await);
    }

    /// Ends an attempt with a wrong password: it counts for the account or the device, and for all networks.
    pub(crate) async fn failed(&self, attempt: &Attempt, begun: ThrottledAttempt) {
        let networks = attempt.networks.iter().map(|(key, policy)| self.counts.add_failure(key, policy));
        let (counted, networks) = futures::join!(self.counts.failed(begun), join_all(networks));
        networks.into_iter().chain([counted]).for_each(log_failed_write);
    }

    /// Ends an attempt whose password could not be checked.
    pub(crate) async fn give_up(&self, begun: ThrottledAttempt) {
        log_failed_write(self.counts.give_up(begun).await);
    }

    /// Counts a request to reset the password of the account at `key`; this limits the number of mails.
    ///
    /// # Errors
    /// As [`attempt`](Self::attempt).
    pub(crate) async fn reset(&self, key: &AccountKey, caller: &Caller) -> Result<(), RpcError> {
        let counted = async {
            match caller.source.as_deref().map(Networks::of) {
                Some(networks) => {
                    // Counted apart from failed log-ins: a request for a mail is not a failed log-in.
                    for (network, policy) in self.networks(RESET_SOURCE, &networks) {
                        self.counts.count(&network, &policy).await?;
                    }
                }
                None => self.unproven.admit(Instant::now()).map_err(Refused::Shared)?,
            }
            let mut policy = ThrottlePolicy::ACCOUNT.starting_at(3);
            policy.first *= 60;
            Ok(self.counts.count(&self.counts.key(RESET, key.as_str()), &policy).await?)
        };
        counted.await.map_err(|refused: Refused| {
            self.tell("password_reset", key.as_str(), caller, &refused);
            refused.into()
        })
    }

    /// Returns the name of the account `name` in audit events: a hash that cannot be matched to addresses without the
    /// pepper.
    pub(crate) fn account(&self, name: &str) -> String {
        self.counts.key(ACCOUNT, name).hash().to_owned()
    }

    /// Returns the name of a caller's source in audit events; `None` if the source is not proven.
    pub(crate) fn source(&self, caller: &Caller) -> Option<String> {
        caller.source.as_deref().map(|source| self.counts.key(SOURCE, source).hash().to_owned())
    }

    /// Resets the counter of password failures of the account at `key`, because the caller gave a stronger proof.
    pub(crate) async fn forget(&self, key: &AccountKey) {
        let cleared = self.counts.clear(&self.counts.key(PASSWORD, key.as_str())).await;
        if let Err(error) = cleared {
            tracing::warn!(%error, "failed attempts were not forgotten");
        }
    }

    /// Returns the counters of networks: the larger a network, the more failures it allows.
    fn networks(&self, kind: &'static str, networks: &Networks) -> Vec<(ThrottleKey, ThrottlePolicy)> {
        let counted = |(size, name)| {
            let times = match size {
                Size::Source => 1,
                Size::Site => 4,
                Size::Network => 16,
            };
            let policy = ThrottlePolicy::SOURCE;
            (self.counts.key(kind, name), policy.starting_at(policy.from * times))
        };
        networks.iter().map(counted).collect()
    }

    /// Checks that no network is throttled; returns `true` if one has half of the failures that throttle it.
    async fn check_networks(&self, networks: &[(ThrottleKey, ThrottlePolicy)]) -> Result<bool, ThrottleError> {
        let failures = try_join_all(networks.iter().map(|(key, policy)| self.counts.check(key, policy))).await?;
        Ok(failures.into_iter().zip(networks).any(|(failures, (_, policy))| failures >= policy.from / 2))
    }

    /// Emits an audit event for a rejected attempt, unless the cause is an unavailable bucket.
    fn tell(&self, action: &'static str, name: &str, caller: &Caller, refused: &Refused) {
        if let Some(retry_after_ms) = refused.retry_after_ms() {
            let (action, account, source) = (action.to_owned(), self.account(name), self.source(caller));
            self.audit.emit(AuditEvent::Throttled { action, account, source, retry_after_ms });
        }
    }
}

impl Attempt {
    /// Returns `true` if the attempt counts for a known device.
    pub(crate) fn is_of_known_device(&self) -> bool {
        self.known
    }

    /// Returns the attempt's place in the hashing queue.
    pub(crate) fn request(&self) -> &HashRequest {
        &self.request
    }
}

fn request(priority: HashPriority, networks: &Networks, caller: &Caller) -> HashRequest {
    HashRequest::new(priority).source(networks.largest(), networks.source()).deadline(caller.deadline())
}

fn log_failed_write(written: Result<(), ThrottleError>) {
    if let Err(error) = written {
        tracing::warn!(%error, "the outcome of an attempt was not counted");
    }
}

/// The reason why an attempt is rejected unchecked.
enum Refused {
    Throttle(ThrottleError),
    /// A shared limit of this instance is reached, such as that of unproven callers; the time until the next free
    /// slot.
    Shared(Duration),
}

impl From<ThrottleError> for Refused {
    fn from(error: ThrottleError) -> Self {
        Self::Throttle(error)
    }
}

impl Refused {
    fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Throttle(error) => error.retry_after_ms(),
            Self::Shared(free) => Some(shared_ms(*free)),
        }
    }
}

impl From<Refused> for RpcError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Throttle(error) => error.into(),
            Refused::Shared(free) => too_many("attempts", shared_ms(free)),
        }
    }
}

/// Returns the wait for callers of a shared limit, until a slot is free. It is at least a second: where slots free up
/// faster, all callers would come for the next one at once.
fn shared_ms(free: Duration) -> u64 {
    u64::try_from(free.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1_000)
}

/// Returns a 429 that contains the time to wait.
fn too_many(what: &str, retry_after_ms: u64) -> RpcError {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        retry_after_ms: u64,
    }
    RpcError::resource_exhausted(format!("too many {what}: try again later")).with_details(Details { retry_after_ms })
}

/// Returns the key that counts attempts at the account of an address, the same for all spellings. Text that is not an
/// address has a key too, so that it is counted.
pub(crate) fn name_of(address: &str) -> String {
    Email::parse(address).map_or_else(|_| address.trim().to_lowercase(), |email| email.key())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_bound_is_told_when_a_place_is_free_and_a_second_at_least() {
        let told = [0, 100_000, 1_000_200, 60_000_000].map(|micros| shared_ms(Duration::from_micros(micros)));
        assert_eq!(told, [1_000, 1_000, 1_001, 60_000]);
    }
}
