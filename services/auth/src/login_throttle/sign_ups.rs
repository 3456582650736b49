//! Rate limits of sign-ups: for each source and its networks first, and then for all.

use std::time::{Duration, Instant};

use nats_rpc::RpcError;
use nats_rpc_auth::ThrottlePolicy;

use super::networks::{Networks, Size};
use super::{Refused, Throttle, too_many};
use crate::account::AccountKey;
use crate::caller::Caller;
use crate::rate::RateLimit;

const SIGN_UP: &str = "sign_up";

/// Rate limits of sign-ups that all sources share.
///
/// A rejected sign-up reveals that an address has an account, so this limits the rate of such tests. Callers that
/// reach a limit block other sign-ups that share it; log-ins have limits of their own.
#[derive(Debug)]
pub(super) struct SignUps {
    per_minute: u32,
    /// Limit of all callers with a proven source, the last resort against many sources.
    proven: RateLimit,
    /// Limit of all callers without a proven source; it does not reduce that of the others.
    unproven: RateLimit,
}

impl SignUps {
    /// Returns limits of `times` sign-ups a minute with a proven source, and as many without one.
    pub(super) fn per_minute(times: u32) -> Self {
        let (proven, unproven) = (RateLimit::per_minute(times), RateLimit::per_minute(times));
        Self { per_minute: times, proven, unproven }
    }
}

/// Returns the policy of a network. It allows 20 sign-ups from a source, 40 from a site, 60 from a network, and then
/// one a minute. These are at most a half, five eighths and three quarters of the limit of all together.
fn policy(size: Size, per_minute: u32) -> ThrottlePolicy {
    let (most, eighths) = match size {
        Size::Source => (20, 4),
        Size::Site => (40, 5),
        Size::Network => (60, 6),
    };
    let share = per_minute.saturating_mul(eighths) / 8;
    let mut policy = ThrottlePolicy::SOURCE.starting_at(most.min(share).max(1));
    policy.first = Duration::from_secs(60);
    policy
}

impl Throttle {
    /// Counts a sign-up for the account at `key`, whatever its outcome: mass creation of accounts is limited like
    /// guessing.
    ///
    /// # Errors
    /// 429 after too many sign-ups, with the time to wait as `retryAfterMs`; 503 if the counters cannot be written.
    pub(crate) async fn sign_up(&self, key: &AccountKey, caller: &Caller) -> Result<(), RpcError> {
        let counted = async {
            let all = match &caller.source {
                // The smallest network first, so that one source does not use up the limit of its network, or of all.
                Some(source) => {
                    for (size, network) in Networks::of(source).iter() {
                        // Counted apart from failed log-ins: sign-ups must not block log-ins.
                        let network = self.counts.key(SIGN_UP, network);
                        self.counts.count(&network, &policy(size, self.sign_ups.per_minute)).await?;
                    }
                    &self.sign_ups.proven
                }
                None => &self.sign_ups.unproven,
            };
            all.admit(Instant::now()).map_err(Refused::Shared)
        };
        let Err(refused) = counted.await else { return Ok(()) };
        self.tell(SIGN_UP, key.as_str(), caller, &refused);
        Err(refused.retry_after_ms().map_or_else(|| refused.into(), |wait| too_many("sign-ups", wait)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_networks_have_more_sign_ups_and_never_all() {
        let of = |all| [Size::Source, Size::Site, Size::Network].map(|size| policy(size, all).from);
        assert_eq!(
            [1, 2, 7, 40, 120, 60_000].map(of),
            [[1, 1, 1], [1, 1, 1], [3, 4, 5], [20, 25, 30], [20, 40, 60], [20, 40, 60]]
        );
        let rule = policy(Size::Source, 120);
        assert_eq!((rule.first, rule.longest), (Duration::from_secs(60), Duration::from_secs(60)));
    }
}
