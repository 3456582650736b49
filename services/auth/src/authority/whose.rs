//! Account lookup by user id, using only data that auth itself writes.

use nats_rpc::RpcError;
use nats_rpc_auth::Email;
use nats_rpc_jwt::UserClaims;
use users::UserId;

use super::Authority;
use super::remains::Written;
use crate::account::{Account, AccountKey};

impl Authority {
    /// Returns the caller's account.
    pub(super) async fn own_account(&self, me: &UserClaims) -> Result<(AccountKey, Account), RpcError> {
        let gone = || RpcError::unauthenticated("there is no such account any more");
        let user = UserId::parse(&me.sub).ok_or_else(gone)?;
        self.account_of(user).await?.filter(|(_, account)| !account.locked).ok_or_else(gone)
    }

    /// Returns the account of a user.
    pub(super) async fn account_of(&self, user: UserId) -> Result<Option<(AccountKey, Account)>, RpcError> {
        let Self(parts) = self;
        if let Some(found) = parts.accounts.find_by_id(user).await? {
            return Ok(Some(found));
        }
        // An account from before index entries existed is found through the user's sessions.
        let Some(live) = parts.sessions.list(&user.to_string()).await?.pop() else { return Ok(None) };
        let key = AccountKey::remembered(live.session.owner.account);
        let Some(account) = parts.accounts.find(&key).await?.filter(|account| account.user_id == user) else {
            return Ok(None);
        };
        let place = parts.accounts.note(&key, user).await?;
        self.still_stands(&key, user, Written { place, profile: false }).await?;
        Ok(Some((key, account)))
    }

    /// Returns the address of an account, which auth does not store: the one in the profile, if its hash matches.
    ///
    /// Use it only as a hint, because users can remove it from the profile.
    pub(super) async fn address(&self, key: &AccountKey, account: &Account) -> Option<Email> {
        let user = account.user_id;
        let profile = self.0.profiles.find(user).await.unwrap_or_else(|error| {
            tracing::warn!(%error, %user, "a profile was not read");
            None
        });
        let email = profile.and_then(|profile| Email::parse(&profile.email).ok());
        let proven = email.filter(|email| AccountKey::of(email) == *key);
        if proven.is_none() {
            tracing::warn!(%user, "no profile has the address of the account: a password made of it is not noticed");
        }
        proven
    }
}
