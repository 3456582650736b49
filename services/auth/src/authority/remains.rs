//! Cleanup of data written for a user who was deleted concurrently.

use nats_rpc::RpcError;
use users::UserId;

use super::Authority;
use crate::account::AccountKey;

/// The data that was written for a user whose account may be deleted concurrently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The index entry of the account.
    pub(super) place: bool,
    pub(super) profile: bool,
}

impl Authority {
    /// Returns `true` if the account is still there and unlocked after `written` data of its user was stored;
    /// otherwise removes that data.
    ///
    /// A deletion locks the account first. If this check does not see the lock, the deletion has yet to remove the
    /// data.
    pub(super) async fn still_stands(
        &self,
        key: &AccountKey,
        user: UserId,
        written: Written,
    ) -> Result<bool, RpcError> {
        let Self(parts) = self;
        if !written.place && !written.profile {
            return Ok(true);
        }
        let now = parts.accounts.find(key).await?;
        if now.is_some_and(|now| now.user_id == user && !now.locked) {
            return Ok(true);
        }
        tracing::warn!(%user, ?written, "an account is locked or gone: what was written meanwhile is removed");
        if written.place {
            parts.accounts.forget(user).await?;
        }
        if written.profile {
            parts.profiles.remove(user).await?;
        }
        Ok(false)
    }
}
