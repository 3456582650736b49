//! Accounts: their data, and their store.

mod store;

use std::fmt;

use nats_rpc_auth::{Email, Owner, PasswordFingerprint};
use serde::{Deserialize, Serialize};
use users::UserId;

pub use self::store::{Accounts, RoleError};

/// A user's credentials and permissions.
///
/// It does not contain the e-mail address: auth stores only the hash of the address, as the key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The user's id, which never changes.
    pub user_id: UserId,
    /// The bcrypt hash of the password.
    pub password_hash: String,
    /// The password's fingerprint, present if the hash was renewed since the user chose the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_origin: Option<PasswordFingerprint>,
    /// Names of roles, such as `admin`.
    #[serde(default)]
    pub roles: Vec<String>,
    /// The epoch that access tokens are issued with; every guard rejects a token of a lower epoch.
    #[serde(default)]
    pub epoch: u64,
    /// The session epoch; sessions of a lower epoch have ended.
    #[serde(default)]
    pub sessions_epoch: u64,
    /// `true` if log-ins are rejected.
    #[serde(default)]
    pub locked: bool,
}

impl Account {
    /// Returns an account without roles, under a new id.
    pub fn new(password_hash: String) -> Self {
        Self {
            user_id: UserId::generate(),
            password_hash,
            password_origin: None,
            roles: Vec::new(),
            epoch: 0,
            sessions_epoch: 0,
            locked: false,
        }
    }

    /// Returns the fingerprint of the present password, which stays the same when the hash is renewed.
    pub fn password(&self) -> PasswordFingerprint {
        self.password_origin.clone().unwrap_or_else(|| PasswordFingerprint::of(&self.password_hash))
    }

    /// Replaces the hash by another one of the same password.
    pub(crate) fn renew_hash(&mut self, hash: &str) {
        self.password_origin = Some(self.password());
        hash.clone_into(&mut self.password_hash);
    }

    /// Replaces the hash by that of another password.
    pub(crate) fn change_password(&mut self, hash: &str) {
        self.password_origin = None;
        hash.clone_into(&mut self.password_hash);
    }

    /// Ends every access token issued so far; sessions continue and get new tokens.
    ///
    /// This changes the record only: after writing it, the caller must announce the epoch.
    pub fn end_tokens(&mut self) {
        self.epoch = self.epoch.saturating_add(1);
    }

    /// Ends every existing session and access token; the caller announces it as for [`end_tokens`](Self::end_tokens).
    pub fn end_sessions(&mut self) {
        self.end_tokens();
        self.sessions_epoch = self.epoch;
    }

    /// Returns `true` if a session of `owner` may continue, while the global epoch is `global_epoch`.
    pub(crate) fn admits(&self, owner: &Owner, global_epoch: u64) -> bool {
        !self.locked
            && self.user_id.to_string() == owner.user
            && owner.user_epoch >= self.sessions_epoch
            && owner.global_epoch >= global_epoch
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
    /// Parses `text`; `None` if it is not a role name.
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = (1..=32).contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        is_name.then(|| Self(text.to_owned()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of an account: the hash of the user's e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountKey(String);

impl AccountKey {
    /// Returns the key of the account of `email`.
    pub fn of(email: &Email) -> Self {
        Self(email.key())
    }

    /// Returns the key that a session stores.
    pub(crate) fn remembered(key: String) -> Self {
        Self(key)
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
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
        let owner = |epoch| Owner::new(account.user_id.to_string(), "key").user_epoch(epoch).global_epoch(1);
        let (first, second, third) = (owner(0), owner(1), owner(2));
        account.end_tokens();
        assert!(account.epoch == 1 && account.admits(&first, 1));
        account.end_sessions();
        assert!(account.epoch == 2 && !account.admits(&second, 1) && account.admits(&third, 1));
        assert!(
            !account.admits(&third, 2)
                && !account.admits(&Owner::new("another", "key").user_epoch(9).global_epoch(9), 0)
        );
        account.locked = true;
        assert!(!account.admits(&third, 1));
    }

    #[test]
    fn renewed_hash_is_of_the_same_password() {
        let mut account = Account::new("first".to_owned());
        let password = account.password();
        account.renew_hash("second");
        account.renew_hash("third");
        assert!(account.password() == password && account.password_hash == "third");
        let kept = serde_json::to_string(&account).unwrap();
        assert!(!kept.contains("first") && !kept.contains("second"), "an old hash may be a cheap one: {kept}");
        account.change_password("fourth");
        assert_eq!(account.password(), PasswordFingerprint::of("fourth"));
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
