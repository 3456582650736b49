//! The bounds of sign-ups: for each source and its networks first, and then for all.

use std::time::{Duration, Instant};

use nats_rpc::RpcError;
use nats_rpc_auth::ThrottlePolicy;

use super::networks::{Networks, Size};
use super::{Refused, Throttle, too_many};
use crate::account::AccountKey;
use crate::caller::Caller;
use crate::rate::RateLimit;

const SIGN_UP: &str = "sign_up";

/// The bounds of sign-ups that all sources share.
///
/// A refused one tells that an address has an account, so this bounds how many addresses can be tried. Callers that
/// reach a bound keep others from signing up that share it; log-ins are bounded apart.
#[derive(Debug)]
pub(super) struct SignUps {
    per_minute: u32,
    /// Of all whose source is proven, the last resort against many sources.
    proven: RateLimit,
    /// Of all whose source is not proven; it leaves the others theirs.
    unproven: RateLimit,
}

impl SignUps {
    /// As many a minute of those whose source is proven, and as many of the others.
    pub(super) fn per_minute(times: u32) -> Self {
        let (proven, unproven) = (RateLimit::per_minute(times), RateLimit::per_minute(times));
        Self { per_minute: times, proven, unproven }
    }
}

/// The sign-ups before one has to wait a minute for each: 20 from a source, 40 from a site, 60 from a network. They are
/// at most a half, five eighths and three quarters of what all have together.
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
    /// Counts a sign-up for the account at `key`, whatever comes of it: an account is as good a thing to make many of
    /// as a guess.
    ///
    /// # Errors
    /// 429 if there were too many, with the time to wait as `retryAfterMs`; 503 if the counts cannot be kept.
    pub(crate) async fn sign_up(&self, key: &AccountKey, caller: &Caller) -> Result<(), RpcError> {
        let counted = async {
            let all = match &caller.source {
                // The smallest first, so that one source does not use up what its network shares, or everybody.
                Some(source) => {
                    for (size, network) in Networks::of(source).iter() {
                        // Apart from failed log-ins, which a sign-up must not keep anybody from.
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
