//! Where accounts are kept.

use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::{Connection, KvError};
use serde::{Deserialize, Serialize};
use users::UserId;
use users::bucket::{self, Bucket, ProvisionError, RecordError};

use super::{Account, AccountKey, Role};

const BUCKET: &str = "auth_users";
/// More would not fit into a token.
const MAX_ROLES: usize = 32;

/// The accounts, in the bucket `auth_users`, and where the account of each user is. Cheap to clone.
///
/// An account is under its [`AccountKey`], and that key under `id.<user id>`: who is found by an id must not
/// depend on what others write. A key of an account has no dot in it, so neither is ever taken for the other.
#[derive(Clone, Debug)]
pub struct Accounts(Arc<Records>);

#[derive(Debug)]
struct Records {
    accounts: Bucket<Account>,
    places: Bucket<Place>,
}

/// Where the account of a user is.
#[derive(Serialize, Deserialize)]
struct Place {
    account: AccountKey,
}

fn place_of(user: UserId) -> String {
    format!("id.{user}")
}

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
        let (accounts, places) = (Bucket::open(connection, BUCKET).await?, Bucket::open(connection, BUCKET).await?);
        Ok(Self(Arc::new(Records { accounts, places })))
    }

    /// The account at `key`, as it is now.
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find(&self, key: &AccountKey) -> Result<Option<Account>, RecordError> {
        self.0.accounts.get(key.as_str()).await
    }

    /// The account of `user`, and where it is; `None` also for one whose place was never [noted](Self::note).
    ///
    /// # Errors
    /// Those of [`Bucket::get`].
    pub async fn find_by_id(&self, user: UserId) -> Result<Option<(AccountKey, Account)>, RecordError> {
        let Some(Place { account: key }) = self.0.places.get(&place_of(user)).await? else { return Ok(None) };
        let account = self.find(&key).await?;
        // Another account may have taken its place.
        Ok(account.filter(|account| account.user_id == user).map(|account| (key, account)))
    }

    /// Notes that the account of `user` is at `key`; false if that is noted.
    ///
    /// # Errors
    /// Those of [`Bucket::create`].
    pub async fn note(&self, key: &AccountKey, user: UserId) -> Result<bool, RecordError> {
        self.0.places.create(&place_of(user), &Place { account: key.clone() }).await
    }

    /// Removes the note of where the account of `user` is.
    ///
    /// # Errors
    /// Those of [`Bucket::remove`].
    pub async fn forget(&self, user: UserId) -> Result<(), RecordError> {
        self.0.places.remove(&place_of(user)).await
    }

    /// Keeps a new account, and notes where it is; false if the address has one. Of many that try at once, one
    /// succeeds.
    ///
    /// # Errors
    /// Those of [`Bucket::create`]; there may be an account then whose place is not noted.
    pub async fn create(&self, key: &AccountKey, account: &Account) -> Result<bool, RecordError> {
        // The account decides who has the address, so it comes first. If the process ends in between, nobody holds
        // a token of the account, and a log-in or a refresh notes the place before it gives any.
        let created = self.0.accounts.create(key.as_str(), account).await?;
        if created {
            self.note(key, account.user_id).await?;
        }
        Ok(created)
    }

    /// Puts `new` in place of the hash `old` of the same password; one that was changed since stays as it is.
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

    /// Puts the hash `new` in place of the password that `seen` has, and ends every session and token.
    ///
    /// `None` if the password was changed since `seen` was read, or the account is gone. A log-in that renewed the
    /// hash of the same password meanwhile is no change. Doing it again with the same hash, where an answer was
    /// lost, changes nothing more.
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
        self.0.accounts.change(key.as_str(), add).await?.ok_or(RoleError::NoAccount)
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
        self.0.accounts.change(key.as_str(), remove).await?.ok_or(RoleError::NoAccount)
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

    /// Removes the account of `user` at `key`, and the note of where it is; doing it again is safe.
    ///
    /// To be done to one that is [locked](Self::lock) and whose end is known, so that a log-in under way begins a
    /// session that has ended already.
    ///
    /// # Errors
    /// Those of [`Bucket::remove`] and [`Bucket::remove_if`].
    pub async fn remove(&self, key: &AccountKey, user: UserId) -> Result<(), RecordError> {
        // The account last: as long as it is there, the rest can be done again.
        self.forget(user).await?;
        // Whoever signs up with the address as soon as it is free keeps what is theirs.
        self.0.accounts.remove_if(key.as_str(), |account| account.user_id == user).await?;
        // Once more, for who found the account in between, noted where it was, and ended before looking again.
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

/// Why a password was not replaced.
enum Overtaken {
    /// It had been already: no two hashes are the same, also of one password.
    ByItself(Box<Account>),
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
