//! How often somebody signs up: from each source first, and then from all.

use std::time::{Duration, Instant};

use nats_rpc::RpcError;
use nats_rpc::auth::BackoffRule;
use nats_rpc::jwt::Peer;

use super::{Guesses, Refused, too_many};
use crate::account::AccountKey;
use crate::rate::RateLimit;

const SIGN_UP: &str = "sign_up";

/// How many sign-ups are looked at.
///
/// A refused one tells that an address has an account, so this bounds how many addresses can be tried. Who
/// reaches a bound keeps from signing up who shares it, and nobody from logging in.
#[derive(Debug)]
pub(super) struct SignUps {
    of_source: BackoffRule,
    /// Of all whose source is proven, the last resort against many sources.
    proven: RateLimit,
    /// Of all whose source nobody proves; who fills it leaves the others theirs.
    unproven: RateLimit,
}

impl SignUps {
    /// As many a minute of those whose source is proven, and as many of the others.
    pub(super) fn per_minute(times: u32) -> Self {
        let (proven, unproven) = (RateLimit::per_minute(times), RateLimit::per_minute(times));
        Self { of_source: of_source(times), proven, unproven }
    }
}

/// Twenty from one source, but no more than half of what all have together; then one a minute.
fn of_source(per_minute: u32) -> BackoffRule {
    let mut rule = BackoffRule::SOURCE;
    rule.from = rule.from.min(per_minute / 2).max(1);
    rule.first = Duration::from_secs(60);
    rule
}

impl Guesses {
    /// Counts a sign-up for the account at `key`, whatever comes of it: an account is as good a thing to make many of
    /// as a guess.
    ///
    /// # Errors
    /// 429 if there were too many, with the time to wait as `retryAfterMs`; 503 if the counts cannot be kept.
    pub(crate) async fn sign_up(&self, key: &AccountKey, peer: &Peer) -> Result<(), RpcError> {
        // Apart from failed log-ins, which a sign-up must not keep anybody from.
        let source = peer.0.as_deref().map(|address| self.backoff.key(SIGN_UP, address));
        let counted = async {
            let all = match &source {
                // First, so that one source does not use up what all of them share.
                Some(source) => {
                    self.backoff.begin(source, &self.sign_ups.of_source).await?;
                    &self.sign_ups.proven
                }
                None => &self.sign_ups.unproven,
            };
            all.admit(Instant::now()).map_err(Refused::Shared)
        };
        let Err(refused) = counted.await else { return Ok(()) };
        self.tell(SIGN_UP, key.as_str(), source.as_ref(), &refused);
        Err(refused.retry_after_ms().map_or_else(|| refused.into(), |wait| too_many("sign-ups", wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_has_twenty_at_once_or_half_of_what_all_have_and_then_one_a_minute() {
        assert_eq!([1, 2, 3, 7, 40, 120, 60_000].map(|all| of_source(all).from), [1, 1, 1, 3, 20, 20, 20]);
        let rule = of_source(120);
        assert_eq!((rule.first, rule.longest), (Duration::from_secs(60), Duration::from_secs(60)));
    }
}
