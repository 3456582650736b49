//! The store of accounts.

use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::{Connection, KvError};
use serde::{Deserialize, Serialize};
use users::UserId;
use users::bucket::{self, Bucket, ProvisionError, RecordError};

use super::{Account, AccountKey, Role};

const BUCKET: &str = "auth_users";
/// Maximum number of roles; more would not fit into a token.
const MAX_ROLES: usize = 32;

/// The accounts, in the bucket `auth_users`, and an index from user ids to accounts. Cheap to clone.
///
/// An account is stored under its [`AccountKey`], and that key under `id.<user id>`. So a lookup by user id does not
/// depend on data that other services write. An account key contains no dot, so the two kinds of keys never collide.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Records>);

#[derive(Debug)]
struct Records {
    accounts: Bucket<Account>,
    places: Bucket<Place>,
}

/// The index entry of a user: the key of the account.
#[derive(Serialize, Deserialize)]
struct Place {
    account: AccountKey,
}

fn place_of(user: UserId) -> String {
    format!("id.{user}")
}

impl Accounts {
    /// Creates the bucket; an existing one keeps its accounts.
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
        let (accounts, places) = (Bucket::open(connection, BUCKET).await?, Bucket::open(connection, BUCKET).await?);
        Ok(Self(Arc::new(Records { accounts, places })))
    }

    /// Returns the account at `key`, as it is now.
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.0.accounts.get(key.as_str()).await
    }

    /// Returns the account of `user` and its key; `None` also for an account that was never [indexed](Self::note).
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find_by_id(&self, user: UserId) -> Result<Option<(AccountKey, Account)>, RecordError> {
        let Some(Place { account: key }) = self.0.places.get(&place_of(user)).await? else { return Ok(None) };
        let account = self.find(&key).await?;
        // Another account may have taken over the address.
        Ok(account.filter(|account| account.user_id == user).map(|account| (key, account)))
    }

    /// Records in the index that the account of `user` is at `key`; returns `false` if it is recorded already.
    ///
    /// # Errors
    /// Those of [`Bucket::create`].
    pub async fn note(&self, key: &AccountKey, user: UserId) -> Result<bool, RecordError> {
        self.0.places.create(&place_of(user), &Place { account: key.clone() }).await
    }

    /// Removes the index entry of `user`.
    ///
    /// # Errors
    /// Those of [`Bucket::remove`].
    pub async fn forget(&self, user: UserId) -> Result<(), RecordError> {
        self.0.places.remove(&place_of(user)).await
    }

    /// Stores a new account and its index entry; returns `false` if the address has an account. Of concurrent calls
    /// for one address, exactly one succeeds.
    ///
    /// # Errors
    /// Those of [`Bucket::create`]; the account may then exist without an index entry.
    pub async fn create(&self, key: &AccountKey, account: &Account) -> Result<bool, RecordError> {
        // The account decides who owns the address, so the code writes it first. If the process ends in between, there
        // are no tokens of the account yet. A log-in or a refresh then writes the index entry before it issues any.
        let created = self.0.accounts.create(key.as_str(), account).await?;
        if created {
            self.note(key, account.user_id).await?;
        }
        Ok(created)
    }

    /// Replaces the hash `old` by `new`, of the same password; a hash that has changed since stays.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn rehash(&self, key: &AccountKey, old: &str, new: &str) -> Result<(), RecordError> {
        let swap = |account: &mut Account| {
            if account.password_hash == old {
                account.renew_hash(new);
            }
            Ok::<_, RecordError>(())
        };
        self.0.accounts.change(key.as_str(), swap).await.map(drop)
    }

    /// Replaces the password hash in `seen` by `new`, and ends every session and token.
    ///
    /// Returns `None` if the password was changed since `seen` was read, or the account is gone. A concurrent log-in
    /// that renewed the hash of the same password does not count as a change. A retry with the same hash, after a lost
    /// reply, changes nothing more.
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
            if account.user_id == seen.user_id && account.password_hash == new {
                return Err(Overtaken::ByItself(Box::new(account.clone())));
            }
            if account.user_id != seen.user_id || account.password() != seen.password() {
                return Err(Overtaken::Changed);
            }
            account.change_password(new);
            account.end_sessions();
            Ok(())
        };
        match self.0.accounts.change(key.as_str(), replace).await {
            Ok(account) => Ok(account),
            Err(Overtaken::ByItself(account)) => Ok(Some(*account)),
            Err(Overtaken::Changed) => Ok(None),
            Err(Overtaken::Record(error)) => Err(error),
        }
    }

    /// Grants `role` to the user at `key`; tokens contain it from the next log-in or refresh on.
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
        self.0.accounts.change(key.as_str(), add).await?.ok_or(RoleError::NoAccount)
    }

    /// Revokes `role` from the user at `key`. Tokens that contain it end; sessions continue without it.
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
        self.0.accounts.change(key.as_str(), remove).await?.ok_or(RoleError::NoAccount)
    }

    /// Locks the user at `key`: prevents log-ins and ends every session and token; `None` if there is no such user.
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

    /// Lets the user at `key` log in again; ended sessions and tokens stay ended. `None` if there is no such user.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn unlock(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.change(key, |account| account.locked = false).await
    }

    /// Ends every session and token of `user`, whose account is at `key`; `None` if the account is not there.
    ///
    /// # Errors
    /// Those of [`Bucket::change`].
    pub async fn end_sessions(&self, key: &AccountKey, user: UserId) -> Result<Option<Account>, RecordError> {
        let end = |account: &mut Account| {
            // Another account may have taken over the address.
            if account.user_id == user {
                account.end_sessions();
            }
        };
        let account = self.change(key, end).await?;
        Ok(account.filter(|account| account.user_id == user))
    }

    /// Removes the account of `user` at `key`, and its index entry; idempotent.
    ///
    /// The caller first [locks](Self::lock) the account and announces the end of its sessions, so that a concurrent
    /// log-in begins a session that has already ended.
    ///
    /// # Errors
    /// Those of [`Bucket::remove`] and [`Bucket::remove_if`].
    pub async fn remove(&self, key: &AccountKey, user: UserId) -> Result<(), RecordError> {
        // Removes the account last: as long as it exists, the caller can retry the rest.
        self.forget(user).await?;
        // A user who signs up with the address as soon as it is free keeps the new account.
        self.0.accounts.remove_if(key.as_str(), |account| account.user_id == user).await?;
        // Removes the entry again, in case a concurrent call read the account, wrote the entry, and ended before its
        // recheck.
        self.forget(user).await
    }

    async fn change(&self, key: &AccountKey, change: impl Fn(&mut Account)) -> Result<Option<Account>, RecordError> {
        let change = |account: &mut Account| {
            change(account);
            Ok::<_, RecordError>(())
        };
        self.0.accounts.change(key.as_str(), change).await
    }
}

/// The reason why a password was not replaced.
enum Overtaken {
    /// An earlier try of this call replaced it: no two hashes are equal, even of the same password.
    ByItself(Box<Account>),
    Changed,
    Record(RecordError),
}

impl From<RecordError> for Overtaken {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

/// The reason why roles were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// No user has signed up with the address.
    #[error("nobody has signed up with this e-mail address")]
    NoAccount,
    /// The account has the maximum of 32 roles.
    #[error("the account has {MAX_ROLES} roles already")]
    TooMany,
    /// Reading or writing the account failed.
    #[error("the account was not changed: {0}")]
    Record(#[from] RecordError),
}
