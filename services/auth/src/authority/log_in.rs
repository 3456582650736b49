//! Log-in: the same reply at the same cost for every failure.

use nats_rpc::RpcError;
use nats_rpc_auth::{Device, Email, Password};
use users::Profile;

use super::password_check::Proven;
use super::remains::Written;
use super::{Authority, Tokens};
use crate::account::{Account, AccountKey};
use crate::caller::Caller;
use crate::login_throttle::name_of;

impl Authority {
    /// Begins a session; 401 for an unknown address and for a wrong password, at the same cost.
    pub(crate) async fn log_in(&self, email: &str, password: &str, caller: &Caller) -> Result<Tokens, RpcError> {
        let name = name_of(email);
        let email = Email::parse(email).ok();
        let key = email.as_ref().map(AccountKey::of);
        let proven = self.check_password(&name, key.as_ref(), password, caller).await?;
        let (Some(email), Some(key), Some(proven)) = (email, key, proven) else { return Err(wrong()) };
        let Proven { account, outdated, device } = proven;
        if outdated {
            self.strengthen(&key, &account, password, caller, device.as_ref()).await;
        }
        self.complete(&key, &account, &email).await?;
        self.begin_session(&key, &account, caller, device.as_ref()).await
    }

    /// Writes missing data: the index entry, so that the bearer of a token can be found by user id, and the profile. A
    /// failed profile write does not fail the log-in. Data may be missing because the account is being deleted.
    async fn complete(&self, key: &AccountKey, account: &Account, email: &Email) -> Result<(), RpcError> {
        let (parts, user) = (&*self.0, account.user_id);
        let place = parts.accounts.note(key, user).await?;
        let profile = Profile::new(user, email.as_str());
        let profile = parts.profiles.create(&profile).await.unwrap_or_else(|error| {
            tracing::warn!(%error, %user, "whether there is a profile is not known");
            false
        });
        if !self.still_stands(key, user, Written { place, profile }).await? {
            return Err(wrong());
        }
        if place || profile {
            tracing::warn!(%user, place, profile, "what was missing of an account was written anew");
        }
        Ok(())
    }

    /// Rehashes a password that another program stored, or that has a lower cost than today's; a failure does not fail
    /// the log-in.
    async fn strengthen(
        &self,
        key: &AccountKey,
        account: &Account,
        password: &str,
        caller: &Caller,
        device: Option<&Device>,
    ) {
        let parts = &*self.0;
        let Some(password) = Password::existing(password) else { return };
        let strengthened = async {
            let mut permit = parts.passwords.admit(&parts.throttle.request(caller, device)).await?;
            let hash = permit.hash(password).await?;
            parts.accounts.rehash(key, &account.password_hash, &hash).await?;
            Ok::<_, RpcError>(())
        };
        if let Err(error) = strengthened.await {
            tracing::warn!(%error, user = %account.user_id, "a password was not hashed anew");
        }
    }
}

fn wrong() -> RpcError {
    RpcError::unauthenticated("wrong e-mail address or password")
}
