//! What an auth service is made of, and what brings its word to every guard.
//!
//! With feature `jwt`, for every service:
//!
//! - [`KeyRing::follow`](crate::jwt::KeyRing::follow) gives the public keys of tokens,
//!   [`JwtConfig::open`](crate::JwtConfig::open) a guard's configuration, [`TokenSettings`] the same in steps.
//! - [`TrustBuckets`] is what the user of a program that verifies tokens needs on nats-server.
//! - [`SigningKeys`] are an instance's own key pairs, [`RingBucket`] is where their public halves are.
//!
//! With feature `auth`:
//!
//! - [`TokenIssuer`] signs the access tokens that a [`JwtGuard`](crate::JwtGuard) takes, 15 min each.
//! - [`Sessions`] keeps sessions in JetStream KV and rotates their refresh tokens.
//! - [`Revoker`] revokes tokens, sessions, users and everybody; guards refuse them by way of
//!   [`Revocations`](crate::jwt::Revocations).
//! - [`TrustBeacon`] lets every service watch revocations and keys without a consumer; [`ChangeSigner`] signs for it.
//! - [`ServiceCredentials`] are what services prove themselves with that may do more than any user.
//! - [`Passwords`] hashes with bcrypt, beside the workers that serve requests.
//! - [`Audit`] tells what happened, by ids and hashes alone.
//! - [`LoginThrottle`] counts failed attempts and makes the next ones wait.
//! - [`DeviceTokens`] let a device that a user has logged in with before be known again.
//! - [`PasswordPolicy`] refuses passwords that are guessed first.
//! - [`ResetTokens`] let the owner of a mailbox choose another password.
//! - [`Email`] is an address in the one form that accounts are found by.

#[cfg(feature = "auth")]
mod audit;
#[cfg(feature = "auth")]
mod device;
mod doubled;
#[cfg(feature = "auth")]
mod email;
mod environment;
#[cfg(feature = "auth")]
mod expiring;
mod follow;
mod keys;
mod leader;
#[cfg(feature = "auth")]
mod login_throttle;
#[cfg(feature = "auth")]
mod password;
#[cfg(feature = "auth")]
mod reset;
#[cfg_attr(not(feature = "auth"), allow(dead_code, unused_imports, reason = "the part that signs is for auth"))]
mod revision;
mod revocation;
#[cfg(feature = "auth")]
mod service;
#[cfg(feature = "auth")]
mod session;
#[cfg(feature = "auth")]
mod signer;
#[cfg(feature = "auth")]
mod token;
mod trust_buckets;
#[cfg_attr(not(feature = "auth"), allow(dead_code, unused_imports, reason = "the part that signs is for auth"))]
mod watch;

#[cfg(feature = "auth")]
pub use self::audit::{Audit, AuditEvent, AuditRecord};
#[cfg(feature = "auth")]
pub use self::device::{Device, DeviceTokens};
#[cfg(feature = "auth")]
pub use self::email::{Email, EmailError};
pub use self::environment::TokenSettings;
#[cfg(feature = "auth")]
pub use self::expiring::ExpiringError;
pub use self::keys::{KeyEvent, KeyPurpose, KeysError, PublishedKey, RingBucket, SigningKeyConfig, SigningKeys};
#[cfg(feature = "auth")]
pub use self::login_throttle::{LoginThrottle, ThrottleError, ThrottleKey, ThrottlePolicy, ThrottledAttempt};
#[cfg(feature = "auth")]
pub use self::password::{
    HashPermit, HashPriority, HashRequest, Password, PasswordConfig, PasswordError, PasswordMatch, PasswordPolicy,
    Passwords,
};
#[cfg(feature = "auth")]
pub use self::reset::{PasswordFingerprint, RESET_LIFETIME, Reset, ResetTokens};
pub use self::revocation::RevocationBucketError;
#[cfg(feature = "auth")]
pub use self::revocation::{RevocationError, Revoker};
#[cfg(feature = "auth")]
pub use self::service::{ServiceClaims, ServiceCredentialError, ServiceCredentials};
#[cfg(feature = "auth")]
pub use self::session::{
    Issued, LiveSession, Owner, Session, SessionBucketError, SessionConfig, SessionError, Sessions,
};
#[cfg(feature = "auth")]
pub use self::signer::ChangeSigner;
#[cfg(feature = "auth")]
pub use self::token::{Grant, TokenIssuer};
pub use self::trust_buckets::TrustBuckets;
#[cfg(feature = "auth")]
pub use self::watch::TrustBeacon;
