//! Operator commands on users: lock, delete, log out, revoke a role. Changes are persisted and take effect
//! immediately.

use std::error::Error;

use nats_rpc::Connection;
use nats_rpc_auth::Email;
use nats_rpc_jwt::Revoker;
use users::Users;

use crate::account::{Account, AccountKey, Accounts, Role};

type BoxError = Box<dyn Error + Send + Sync>;

/// The standing that an operator gives a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// The user may not log in; every session and token ends.
    Locked,
    /// The user may log in again.
    Unlocked,
    /// Removes account and profile; every session and token ends.
    Deleted,
    /// Every session and token ends.
    LoggedOut,
}

impl Standing {
    /// Gives the user at `email` this standing, and returns the account as last written; `None` if no user has signed
    /// up with the address.
    ///
    /// The auth service need not run: the account stores the standing, and guards watch the revocations.
    ///
    /// # Errors
    /// If a bucket is unavailable. Retrying is safe, and completes the remaining steps.
    pub async fn give(self, connection: &Connection, email: &Email) -> Result<Option<Account>, BoxError> {
        let key = AccountKey::of(email);
        let accounts = Accounts::open(connection).await?;
        // Opened first: without a revoker the command must not start, because it could not announce the change.
        let revoker = Revoker::open(connection).await?;
        let account = match self {
            // A deletion locks first: the user cannot log in while the rest is done, or waits for a retry.
            Self::Locked | Self::Deleted => accounts.lock(&key).await?,
            Self::Unlocked => return Ok(accounts.unlock(&key).await?),
            Self::LoggedOut => match accounts.find(&key).await? {
                Some(account) => accounts.end_sessions(&key, account.user_id).await?,
                None => None,
            },
        };
        let Some(account) = account else { return Ok(None) };
        revoker.user(&account.user_id.to_string(), account.epoch).await?;
        if self == Self::Deleted {
            Users::open(connection).await?.remove(account.user_id).await?;
            // Removed last, because the address leads to everything else that must be removed.
            accounts.remove(&key, account.user_id).await?;
        }
        Ok(Some(account))
    }
}

/// Revokes `role` from the user at `email`, and ends the tokens that contain it; sessions continue without it.
///
/// # Errors
/// [`RoleError`](crate::account::RoleError), or if a bucket is unavailable; retrying is safe.
pub async fn revoke_role(connection: &Connection, email: &Email, role: &Role) -> Result<Account, BoxError> {
    let revoker = Revoker::open(connection).await?;
    let account = Accounts::open(connection).await?.revoke(&AccountKey::of(email), role).await?;
    revoker.user(&account.user_id.to_string(), account.epoch).await?;
    Ok(account)
}
