//! What bounds guessing: per account, per source, and of all whose source nobody proves.

mod sign_ups;

use std::time::{Duration, Instant};

use nats_rpc::RpcError;
use nats_rpc::auth::{Audit, AuditEvent, Backoff, BackoffError, BackoffKey, BackoffRule, Email};
use nats_rpc::jwt::Peer;
use serde::Serialize;

use self::sign_ups::SignUps;
use crate::account::AccountKey;
use crate::config::PerMinute;
use crate::rate::RateLimit;

/// What attempts at a password are counted under, be they log-ins or changes.
const PASSWORD: &str = "password";
const RESET: &str = "reset";
const SOURCE: &str = "source";
/// What audit events name an account by.
const ACCOUNT: &str = "account";

/// Bounds how fast passwords and addresses can be guessed, and how often somebody is sent a mail.
#[derive(Debug)]
pub(crate) struct Guesses {
    backoff: Backoff,
    unproven: RateLimit,
    sign_ups: SignUps,
    audit: Audit,
}

/// An attempt that counts as failed until it has [succeeded](Self::succeeded).
#[derive(Debug)]
#[must_use = "it counts as failed until it has succeeded"]
pub(crate) struct Attempt<'a> {
    guesses: &'a Guesses,
    account: BackoffKey,
    source: Option<BackoffKey>,
}

impl Guesses {
    pub(crate) fn new(backoff: Backoff, per_minute: PerMinute, audit: Audit) -> Self {
        let PerMinute { sign_ups, log_ins } = per_minute;
        Self { backoff, unproven: RateLimit::per_minute(log_ins), sign_ups: SignUps::per_minute(sign_ups), audit }
    }

    /// Counts an attempt at the password of the account that is [named](name_of) `name`, whether there is one or not.
    ///
    /// # Errors
    /// 429 if there were too many, with the time to wait as `retryAfterMs`; 503 if the counts cannot be kept.
    pub(crate) async fn password(&self, name: &str, peer: &Peer) -> Result<Attempt<'_>, RpcError> {
        self.begin("password", PASSWORD, name, &BackoffRule::ACCOUNT, peer).await
    }

    /// Counts a request to reset the password of the account at `key`, which never succeeds: mails are what is
    /// bounded.
    ///
    /// # Errors
    /// As [`password`](Self::password).
    pub(crate) async fn reset(&self, key: &AccountKey, peer: &Peer) -> Result<Attempt<'_>, RpcError> {
        let mut rule = BackoffRule::ACCOUNT;
        rule.from = 3;
        rule.first *= 60;
        self.begin("password_reset", RESET, key.as_str(), &rule, peer).await
    }

    /// How audit events name the account `name`: a hash that nobody without the pepper can try addresses against.
    pub(crate) fn account(&self, name: &str) -> String {
        self.backoff.key(ACCOUNT, name).hash().to_owned()
    }

    /// Forgets the failures at the password of the account at `key`, for there was a better proof.
    pub(crate) async fn forget(&self, key: &AccountKey) {
        let cleared = self.backoff.clear(&self.backoff.key(PASSWORD, key.as_str())).await;
        if let Err(error) = cleared {
            tracing::warn!(%error, "failures were not forgotten");
        }
    }

    async fn begin(
        &self,
        action: &'static str,
        kind: &'static str,
        name: &str,
        rule: &BackoffRule,
        peer: &Peer,
    ) -> Result<Attempt<'_>, RpcError> {
        let account = self.backoff.key(kind, name);
        let source = peer.0.as_deref().map(|address| self.backoff.key(SOURCE, address));
        let counted = async {
            match &source {
                // First, so that who sprays one password over many accounts touches no further account.
                Some(source) => self.backoff.begin(source, &BackoffRule::SOURCE).await?,
                None => self.unproven.admit(Instant::now()).map_err(Refused::Shared)?,
            }
            Ok(self.backoff.begin(&account, rule).await?)
        };
        let Err(refused) = counted.await else { return Ok(Attempt { guesses: self, account, source }) };
        self.tell(action, name, source.as_ref(), &refused);
        Err(refused.into())
    }

    /// Tells of an attempt that was not looked at, unless that is for want of an answer.
    fn tell(&self, action: &'static str, name: &str, source: Option<&BackoffKey>, refused: &Refused) {
        if let Some(retry_after_ms) = refused.retry_after_ms() {
            let source = source.map(|source| source.hash().to_owned());
            let (action, account) = (action.to_owned(), self.account(name));
            self.audit.emit(AuditEvent::Throttled { action, account, source, retry_after_ms });
        }
    }
}

impl Attempt<'_> {
    /// Where it came from, as a keyed hash; `None` if nobody proved it.
    pub(crate) fn source(&self) -> Option<String> {
        self.source.as_ref().map(|source| source.hash().to_owned())
    }

    /// Takes the attempt back. If that fails, somebody has one failure too many, which is no reason to fail.
    pub(crate) async fn succeeded(self) {
        let Self { guesses: Guesses { backoff, .. }, account, source } = self;
        let cleared = backoff.clear(&account).await;
        let forgiven = match source {
            Some(source) => backoff.forgive(&source, &BackoffRule::SOURCE).await,
            None => Ok(()),
        };
        if let Err(error) = cleared.and(forgiven) {
            tracing::warn!(%error, "a success counts as a failure");
        }
    }
}

/// Why an attempt is not looked at.
enum Refused {
    Backoff(BackoffError),
    /// Too many of all that share a bound of this instance, such as those whose source nobody proves; the next place
    /// is free after so long.
    Shared(Duration),
}

impl From<BackoffError> for Refused {
    fn from(error: BackoffError) -> Self {
        Self::Backoff(error)
    }
}

impl Refused {
    fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Backoff(error) => error.retry_after_ms(),
            Self::Shared(free) => Some(shared_ms(*free)),
        }
    }
}

impl From<Refused> for RpcError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Backoff(error) => error.into(),
            Refused::Shared(free) => too_many("attempts", shared_ms(free)),
        }
    }
}

/// What who shares a bound is told to wait, until a place is free: at least a second, as where places come faster,
/// all would come for the next one at once.
fn shared_ms(free: Duration) -> u64 {
    u64::try_from(free.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1_000)
}

/// A 429 that says how long to wait.
fn too_many(what: &str, retry_after_ms: u64) -> RpcError {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        retry_after_ms: u64,
    }
    RpcError::resource_exhausted(format!("too many {what}: try again later")).with_details(Details { retry_after_ms })
}

/// What attempts at the account of an address are counted under: the key of the account, one for all spellings.
/// Text that is no address has a name too, so that it is counted.
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
