//! Logging in: one answer and one price for everything that is wrong.

use nats_rpc::RpcError;
use nats_rpc::auth::{AuditEvent, Email, Password, Passwords};
use nats_rpc::jwt::Peer;
use users::Profile;

use super::remains::Written;
use super::{Authority, Tokens};
use crate::account::{Account, AccountKey};
use crate::guesses::name_of;

impl Authority {
    /// Begins a session; 401 for an unknown address and for a wrong password, at the same price.
    ///
    /// Both read the same buckets, count the attempt alike, and run one bcrypt of the same cost. A place
    /// among the hashing comes first, so that a flood costs no more than the places there are.
    pub(crate) async fn log_in(&self, email: &str, password: &str, peer: &Peer) -> Result<Tokens, RpcError> {
        let parts = &*self.0;
        let admitted = parts.passwords.admit()?;
        let name = name_of(email);
        let attempt = parts.guesses.password(&name, peer).await?;
        let email = Email::parse(email).ok();
        let key = email.as_ref().map(AccountKey::of);
        let account = match &key {
            Some(key) => parts.accounts.find(key).await?,
            None => None,
        };
        let known = account.as_ref().map(|account| account.user_id);
        // A locked account looks and costs like none.
        let account = account.filter(|account| !account.locked);
        let stored = account.as_ref().map(|account| account.password_hash.as_str());
        if let (Some(user), Some(false)) = (known, stored.map(Passwords::is_usable)) {
            parts.audit.emit(AuditEvent::PasswordHashUnusable { user: user.to_string() });
        }
        let matches = admitted.verify(password, stored).await?;
        let (Some(email), Some(key), Some(account), true) = (email, key, account, matches) else {
            let source = attempt.source();
            let account = parts.guesses.account(&name);
            let user = known.map(|user| user.to_string());
            parts.audit.emit(AuditEvent::LogInRefused { account, user, source });
            return Err(wrong());
        };
        let source = attempt.source();
        attempt.succeeded().await;
        self.strengthen(&key, &account, password).await;
        self.complete(&key, &account, &email).await?;
        self.begin_session(&key, &account, source).await
    }

    /// Writes what is missing: the note of where the account is, so that whoever holds a token is found by their id,
    /// and the profile, over which a log-in does not fail. It may be missing because the account is being deleted.
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

    /// Hashes a password anew that was stored at a lower cost than today's; a log-in does not fail over it.
    async fn strengthen(&self, key: &AccountKey, account: &Account, password: &str) {
        let parts = &*self.0;
        if !parts.passwords.is_weak(&account.password_hash) {
            return;
        }
        let Ok(password) = Password::parse(password) else { return };
        let strengthened = async {
            let hash = parts.passwords.hash(password).await?;
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
