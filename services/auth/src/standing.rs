//! What an operator does to users: lock, delete, log out, take a role away. It lasts, and is known at once.

use std::error::Error;

use nats_rpc::Connection;
use nats_rpc_auth::Email;
use nats_rpc_jwt::Revoker;
use users::Users;

use crate::account::{Account, AccountKey, Accounts, Role};

type BoxError = Box<dyn Error + Send + Sync>;

/// What becomes of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// May not log in; every session and token ends.
    Locked,
    /// May log in again.
    Unlocked,
    /// Account and profile are removed; every session and token ends.
    Deleted,
    /// Every session and token ends.
    LoggedOut,
}

impl Standing {
    /// Gives the user at `email` this standing, and the account as it was written last; `None` if nobody has
    /// signed up with the address.
    ///
    /// It needs no auth service: what lasts is in the account, and guards hear of the rest by themselves.
    ///
    /// # Errors
    /// If a bucket does not answer. Doing it again is safe, and does what is left to do.
    pub async fn give(self, connection: &Connection, email: &Email) -> Result<Option<Account>, BoxError> {
        let key = AccountKey::of(email);
        let accounts = Accounts::open(connection).await?;
        // Opened first: what could not be made known is better not done.
        let revoker = Revoker::open(connection).await?;
        let account = match self {
            // A deletion is a lock first: nobody comes in while the rest is done, or is left to be done again.
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
            // Last, as the address leads to whatever else there is to remove.
            accounts.remove(&key, account.user_id).await?;
        }
        Ok(Some(account))
    }
}

/// Takes `role` from the user at `email`, and ends the tokens that have it; sessions go on without it.
///
/// # Errors
/// [`RoleError`](crate::account::RoleError), or if a bucket does not answer; doing it again is safe.
pub async fn revoke_role(connection: &Connection, email: &Email, role: &Role) -> Result<Account, BoxError> {
    let revoker = Revoker::open(connection).await?;
    let account = Accounts::open(connection).await?.revoke(&AccountKey::of(email), role).await?;
    revoker.user(&account.user_id.to_string(), account.epoch).await?;
    Ok(account)
}
