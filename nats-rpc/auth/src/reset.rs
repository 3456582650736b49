//! Password reset tokens, for the owner of a mailbox.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_rpc::{Connection, RpcError};
use nats_rpc_jwt::__private::Clock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::expiring::{Expiring, ExpiringError};

const BUCKET: &str = "auth_reset";
const PREFIX: &str = "nrp1.";
const SECRET_BYTES: usize = 32;

/// The lifetime of a reset token.
pub const RESET_LIFETIME: Duration = Duration::from_mins(15);

/// Reset tokens, in the KV bucket `auth_reset`: opaque and short-lived, stored as hashes only.
///
/// A token (`nrp1.` and 43 characters) is valid for 15 minutes and for the password at the time of issue: its
/// [`Reset`] contains the password's [fingerprint](PasswordFingerprint). Replacing the password by compare-and-set
/// invalidates every token that was issued for it. Two simultaneous uses change the password once.
#[derive(Debug)]
pub struct ResetTokens {
    records: Expiring<Record>,
    clock: Clock,
}

/// The account of a token, and the password that it resets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reset {
    /// The key by which the account is looked up, such as [`Email::key`](super::Email::key).
    pub account: String,
    /// The user's id.
    pub user: String,
    fingerprint: PasswordFingerprint,
}

/// A digest of a stored hash, which identifies the hashed password.
///
/// Store it if the hash may be renewed, for example at a higher cost: the password stays the same then, and so do the
/// tokens issued for it. The hash cannot be derived from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordFingerprint(String);

impl PasswordFingerprint {
    /// Returns the fingerprint of `password_hash` as stored.
    pub fn of(password_hash: &str) -> Self {
        Self(hashed(b"password hash\0", password_hash))
    }
}

impl Reset {
    /// Creates a reset for the user at `account`, valid while the account has the password of `fingerprint`.
    pub fn new(account: impl Into<String>, user: impl Into<String>, fingerprint: PasswordFingerprint) -> Self {
        Self { account: account.into(), user: user.into(), fingerprint }
    }

    /// Creates a reset without an account: its token costs as much as any other and resets nothing.
    pub fn nobody() -> Self {
        Self::new("", "", PasswordFingerprint::of(""))
    }

    /// Returns `true` if the token was issued for the password of `fingerprint`.
    pub fn is_of(&self, fingerprint: &PasswordFingerprint) -> bool {
        !self.user.is_empty() && self.fingerprint == *fingerprint
    }
}

#[derive(Serialize, Deserialize)]
struct Record {
    reset: Reset,
    expires: u64,
}

impl ResetTokens {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or updates an existing one to this configuration.
    ///
    /// # Errors
    /// [`ExpiringError::Provision`] if the server rejects the request, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), ExpiringError> {
        Expiring::<Record>::provision(jetstream, BUCKET, "hashes of reset tokens, no secrets", replicas).await
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// [`ExpiringError::Bucket`] if it was not provisioned or cannot be reached, [`ExpiringError::NoTtl`] if it was
    /// created without limit markers.
    pub async fn open(connection: &Connection) -> Result<Self, ExpiringError> {
        Ok(Self { records: Expiring::open(connection, BUCKET).await?, clock: Clock::default() })
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Issues a new token, a secret for the owner of the account only.
    ///
    /// # Errors
    /// A 503 if the bucket does not reply, a 500 if the system returns no random numbers.
    pub async fn issue(&self, reset: Reset) -> Result<Zeroizing<String>, RpcError> {
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        getrandom::fill(secret.as_mut()).map_err(|error| RpcError::internal(error.to_string()))?;
        let token = Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret.as_ref())));
        let lifetime = u64::try_from(RESET_LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let record = Record { reset, expires: self.clock.unix_millis().saturating_add(lifetime) };
        // An existing key would mean the same 32 random bytes twice.
        match self.records.write(&key(&token), &record, 0, RESET_LIFETIME).await? {
            true => Ok(token),
            false => Err(RpcError::internal("two reset tokens are the same")),
        }
    }

    /// Returns the reset of `token`, or `None` if the token is invalid or expired.
    ///
    /// # Errors
    /// [`ExpiringError::Unavailable`] if the bucket does not reply.
    pub async fn find(&self, token: &str) -> Result<Option<Reset>, ExpiringError> {
        if !is_token(token) {
            return Ok(None);
        }
        let record = self.records.read(&key(token)).await?.record;
        Ok(record.filter(|record| self.clock.unix_millis() < record.expires).map(|record| record.reset))
    }

    /// Removes `token` after its use.
    ///
    /// # Errors
    /// [`ExpiringError::Unavailable`] if the bucket does not reply.
    pub async fn discard(&self, token: &str) -> Result<(), ExpiringError> {
        self.records.remove(&key(token)).await
    }
}

fn is_token(text: &str) -> bool {
    let secret = text.strip_prefix(PREFIX).and_then(|secret| URL_SAFE_NO_PAD.decode(secret).ok());
    secret.is_some_and(|secret| secret.len() == SECRET_BYTES)
}

fn key(token: &str) -> String {
    hashed(b"reset token\0", token)
}

fn hashed(what: &[u8], text: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::new().chain_update(what).chain_update(text).finalize())
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record").field("reset", &self.reset).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_of_one_stored_hash_and_nobodys_is_of_none() {
        let of = PasswordFingerprint::of;
        let reset = Reset::new("account", "u1", of("$2b$10$abc"));
        assert!(reset.is_of(&of("$2b$10$abc")));
        assert!(!reset.is_of(&of("$2b$10$abd")) && !reset.is_of(&of("")));
        assert!(!Reset::nobody().is_of(&of("")));
    }

    #[test]
    fn nothing_kept_is_the_token() {
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; SECRET_BYTES]));
        assert!(is_token(&token));
        let record = Record { reset: Reset::new("account", "u1", PasswordFingerprint::of("$2b$10$abc")), expires: 7 };
        let kept = format!("{} {}", key(&token), serde_json::to_string(&record).unwrap());
        assert!(!kept.contains(&token[PREFIX.len()..]) && !kept.contains("$2b$"), "{kept}");
    }

    #[test]
    fn what_has_not_the_form_of_a_token_is_none() {
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([7; SECRET_BYTES]));
        for wrong in ["", PREFIX, &token[1..], &token[..token.len() - 1], &format!("{token}A"), "nrt1.AAAA"] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }
}
