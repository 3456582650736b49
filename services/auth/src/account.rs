//! What an account is, and where accounts are kept.

use std::fmt;
use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::auth::{Email, Owner};
use nats_rpc::{Connection, KvError};
use serde::{Deserialize, Serialize};
use users::UserId;
use users::bucket::{self, Bucket, ProvisionError, RecordError};

const BUCKET: &str = "auth_users";
/// More would not fit into a token.
const MAX_ROLES: usize = 32;

/// What proves who logs in, and what they may do.
///
/// The e-mail address is not in it: only its hash is known, as the key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The user's id, for ever.
    pub user_id: UserId,
    /// The bcrypt hash of the password.
    pub password_hash: String,
    /// Names of roles, such as `admin`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// What access tokens are issued with; a token of a lower epoch is refused everywhere.
    #[serde(default)]
    pub epoch: u64,
    /// Sessions begun in a lower epoch have ended.
    #[serde(default)]
    pub sessions_epoch: u64,
    /// Whether nobody may log in.
    #[serde(default)]
    pub locked: bool,
}

impl Account {
    /// An account without roles, under a new id.
    pub fn new(password_hash: String) -> Self {
        Self {
            user_id: UserId::generate(),
            password_hash,
            roles: Vec::new(),
            epoch: 0,
            sessions_epoch: 0,
            locked: false,
        }
    }

    /// Ends every access token issued so far; sessions go on and get others.
    ///
    /// Of this record alone nobody hears: once it is written, the epoch has to be announced.
    pub fn end_tokens(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Ends every session and every access token there is; announced as [`end_tokens`](Self::end_tokens).
    pub fn end_sessions(&mut self) {
        self.end_tokens();
        self.sessions_epoch = self.epoch;
    }

    /// Whether a session of `owner` may go on, while the realm is in the epoch `realm`.
    pub(crate) fn admits(&self, owner: &Owner, realm: u64) -> bool {
        !self.locked
            && self.user_id.to_string() == owner.user
            && owner.epoch >= self.sessions_epoch
            && owner.realm >= realm
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("user_id", &self.user_id)
            .field("roles", &self.roles)
            .field("epoch", &self.epoch)
            .field("locked", &self.locked)
            .finish_non_exhaustive()
    }
}

/// A role's name: 1 to 32 of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role(String);

impl Role {
    /// Checks `text`; `None` if it is no name of a role.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        is_name.then(|| Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where an account is found: the hash of the user's e-mail address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountKey(String);

impl AccountKey {
    /// The key of the account of `email`.
    pub fn of(email: &Email) -> Self {
        Self(email.key())
    }

    /// The key that a session remembers.
    pub(crate) fn remembered(key: String) -> Self {
        Self(key)
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The accounts, in the bucket `auth_users`. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Bucket<Account>>);

impl Accounts {
    /// Creates the bucket; one that exists keeps its accounts.
    ///
    /// # Errors
    /// Those of [`bucket::provision`].
    pub async fn provision(jetstream: &jetstream::Context, replicas: users::Replicas) -> Result<(), ProvisionError> {
        bucket::provision(jetstream, BUCKET, "accounts by the hash of their e-mail address", replicas).await
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// Those of [`Bucket::open`].
    pub async fn open(connection: &Connection) -> Result<Self, KvError> {
        Ok(Self(Arc::new(Bucket::open(connection, BUCKET).await?)))
    }

    /// The account at `key`, as it is now.
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.0.get(key.as_str()).await
    }

    /// Keeps a new account; false if the address has one. Of many that try at once, one succeeds.
    ///
    /// # Errors
    /// Those of [`Bucket::create`].
    pub async fn create(&self, key: &AccountKey, account: &Account) -> Result<bool, RecordError> {
        self.0.create(key.as_str(), account).await
    }

    /// Puts `new` in place of the hash `old` of the same password; one that was changed since stays as it is.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn rehash(&self, key: &AccountKey, old: &str, new: &str) -> Result<(), RecordError> {
        let swap = |account: &mut Account| {
            if account.password_hash == old {
                new.clone_into(&mut account.password_hash);
            }
            Ok::<_, RecordError>(())
        };
        self.0.change(key.as_str(), swap).await.map(drop)
    }

    /// Puts the hash `new` in place of the one that `seen` has, and ends every session and token.
    ///
    /// `None` if the password was changed since `seen` was read, or the account is gone.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn replace_password(
        &self,
        key: &AccountKey,
        seen: &Account,
        new: &str,
    ) -> Result<Option<Account>, RecordError> {
        let replace = |account: &mut Account| {
            if account.user_id != seen.user_id || account.password_hash != seen.password_hash {
                return Err(Overtaken::Changed);
            }
            new.clone_into(&mut account.password_hash);
            account.end_sessions();
            Ok(())
        };
        match self.0.change(key.as_str(), replace).await {
            Ok(account) => Ok(account),
            Err(Overtaken::Changed) => Ok(None),
            Err(Overtaken::Record(error)) => Err(error),
        }
    }

    /// Gives `role` to the user at `key`; tokens have it from the next log-in or refresh on.
    ///
    /// # Errors
    /// [`RoleError::NoAccount`], [`RoleError::TooMany`], and those of [`Bucket::change`].
    pub async fn grant(&self, key: &AccountKey, Role(role): &Role) -> Result<Account, RoleError> {
        let add = |account: &mut Account| {
            if !account.roles.contains(role) {
                if account.roles.len() >= MAX_ROLES {
                    return Err(RoleError::TooMany);
                }
                account.roles.push(role.clone());
            }
            Ok(())
        };
        self.0.change(key.as_str(), add).await?.ok_or(RoleError::NoAccount)
    }

    /// Takes `role` from the user at `key`. Tokens that have it end; sessions go on without it.
    ///
    /// # Errors
    /// [`RoleError::NoAccount`], and those of [`Bucket::change`].
    pub async fn revoke(&self, key: &AccountKey, Role(role): &Role) -> Result<Account, RoleError> {
        let remove = |account: &mut Account| {
            if account.roles.contains(role) {
                account.roles.retain(|known| known != role);
                account.end_tokens();
            }
            Ok::<_, RoleError>(())
        };
        self.0.change(key.as_str(), remove).await?.ok_or(RoleError::NoAccount)
    }

    /// Keeps the user at `key` from logging in, and ends what they have; `None` if there is no such user.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn lock(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.change(key, |account| {
            account.locked = true;
            account.end_sessions();
        })
        .await
    }

    /// Lets the user at `key` log in again; what a lock has ended stays so. `None` if there is no such user.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn unlock(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.change(key, |account| account.locked = false).await
    }

    /// Ends every session and token of `user`, whose account is at `key`; `None` if it is not.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn end_sessions(&self, key: &AccountKey, user: UserId) -> Result<Option<Account>, RecordError> {
        let end = |account: &mut Account| {
            // Another account may have taken its place.
            if account.user_id == user {
                account.end_sessions();
            }
        };
        let account = self.change(key, end).await?;
        Ok(account.filter(|account| account.user_id == user))
    }

    /// Deletes the account at `key`, and gives it as it was last: with an epoch that ends what the user has.
    /// `None` if there is none.
    ///
    /// # Errors
    /// Those of [`Bucket::change`] and [`Bucket::remove`].
    pub async fn delete(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        // First, so that a log-in under way begins a session that has ended already.
        let last = self.lock(key).await?;
        if last.is_some() {
            self.0.remove(key.as_str()).await?;
        }
        Ok(last)
    }

    async fn change(&self, key: &AccountKey, change: impl Fn(&mut Account)) -> Result<Option<Account>, RecordError> {
        let change = |account: &mut Account| {
            change(account);
            Ok::<_, RecordError>(())
        };
        self.0.change(key.as_str(), change).await
    }
}

/// Why a password was not replaced.
enum Overtaken {
    Changed,
    Record(RecordError),
}

impl From<RecordError> for Overtaken {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// Why roles were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// Nobody has signed up with the address.
    #[error("nobody has signed up with this e-mail address")]
    NoAccount,
    /// The account has 32 roles.
    #[error("the account has {MAX_ROLES} roles already")]
    TooMany,
    /// The account was not read or written.
    #[error("the account was not changed: {0}")]
    Record(#[from] RecordError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_a_short_lower_case_name() {
        for name in ["admin", "a", "read-only_2"] {
            assert!(Role::parse(name).is_some(), "{name}");
        }
        for name in ["", "Admin", "admin ", "a b", "a.b", "é", &"a".repeat(33)] {
            assert!(Role::parse(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn what_ends_tokens_leaves_sessions_and_what_ends_sessions_ends_tokens() {
        let mut account = Account::new(String::new());
        let owner = |epoch| Owner::new(account.user_id.to_string(), "key").in_epoch(epoch).in_realm(1);
        let (first, second, third) = (owner(0), owner(1), owner(2));
        account.end_tokens();
        assert!(account.epoch == 1 && account.admits(&first, 1));
        account.end_sessions();
        assert!(account.epoch == 2 && !account.admits(&second, 1) && account.admits(&third, 1));
        assert!(
            !account.admits(&third, 2) && !account.admits(&Owner::new("another", "key").in_epoch(9).in_realm(9), 0)
        );
        account.locked = true;
        assert!(!account.admits(&third, 1));
    }

    #[test]
    fn an_account_written_before_there_were_epochs_is_read() {
        let id = UserId::generate();
        let account: Account = serde_json::from_str(&format!(r#"{{"userId":"{id}","passwordHash":"h"}}"#)).unwrap();
        assert!(account.epoch == 0 && account.admits(&Owner::new(id.to_string(), "key"), 0));
    }

    #[test]
    fn no_hash_is_printed() {
        let account = Account::new("$2b$12$abcdefghijklmnopqrstuv".to_owned());
        assert!(!format!("{account:?}").contains("$2b$"));
    }
}
