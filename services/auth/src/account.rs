//! What an account is, and where accounts are kept.

use std::fmt;
use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::auth::Email;
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
}

impl Account {
    /// An account without roles, under a new id.
    pub fn new(password_hash: String) -> Self {
        Self { user_id: UserId::generate(), password_hash, roles: Vec::new() }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user_id", &self.user_id).field("roles", &self.roles).finish_non_exhaustive()
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

    /// Puts `new` in place of the hash `old`; an account whose password was changed since stays as it is.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub(crate) async fn rehash(&self, key: &AccountKey, old: &str, new: &str) -> Result<(), RecordError> {
        let swap = |account: &mut Account| {
            if account.password_hash == old {
                new.clone_into(&mut account.password_hash);
            }
            Ok::<_, RecordError>(())
        };
        self.0.change(key.as_str(), swap).await.map(drop)
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

    /// Takes `role` from the user at `key`; tokens lack it from the next log-in or refresh on.
    ///
    /// # Errors
    /// [`RoleError::NoAccount`], and those of [`Bucket::change`].
    pub async fn revoke(&self, key: &AccountKey, Role(role): &Role) -> Result<Account, RoleError> {
        let remove = |account: &mut Account| {
            account.roles.retain(|known| known != role);
            Ok::<_, RoleError>(())
        };
        self.0.change(key.as_str(), remove).await?.ok_or(RoleError::NoAccount)
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
    fn no_hash_is_printed() {
        let account = Account::new("$2b$12$abcdefghijklmnopqrstuv".to_owned());
        assert!(!format!("{account:?}").contains("$2b$"));
    }
}
