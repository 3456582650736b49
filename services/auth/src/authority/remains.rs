//! What is written of a user must not outlive them: it is looked at again, and removed with them.

use nats_rpc::RpcError;
use users::UserId;

use super::Authority;
use crate::account::AccountKey;

/// What was written of a user whose account may be deleted meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// The note of where the account is.
    pub(super) place: bool,
    pub(super) profile: bool,
}

impl Authority {
    /// Whether nobody has locked or deleted the account since something was `written` of its user, which is removed
    /// if somebody has.
    ///
    /// A deletion locks first, so one that the look at the account does not show is yet to remove what was written.
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
