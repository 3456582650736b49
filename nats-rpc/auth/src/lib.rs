//! Building blocks for an auth service.
//!
//! - [`TokenIssuer`] signs access tokens that a [`JwtGuard`](nats_rpc_jwt::JwtGuard) accepts, valid for 15 min.
//! - [`Sessions`] keeps sessions in JetStream KV and rotates their refresh tokens.
//! - [`ServiceCredentials`] authenticate services that have more permissions than any user.
//! - [`PasswordHasher`] hashes with bcrypt, on other threads than those that serve requests.
//! - [`Audit`] publishes audit events, which contain ids and hashes only.
//! - [`LoginThrottle`] counts failed attempts and delays the next ones.
//! - [`DeviceTokens`] recognize a device with which a user has logged in before.
//! - [`PasswordPolicy`] rejects passwords that attackers guess first.
//! - [`ResetTokens`] let the owner of a mailbox set a new password.
//! - [`Email`] is an e-mail address in the canonical form, by which accounts are looked up.
//!
//! Signing keys ([`SigningKeys`](nats_rpc_jwt::SigningKeys)) and revocations ([`Revoker`](nats_rpc_jwt::Revoker)) are
//! in nats-rpc-jwt: gateways sign too, and writers and readers of a bucket share one format.

mod audit;
mod device;
mod email;
mod expiring;
mod login_throttle;
mod password;
mod reset;
mod service;
mod session;
mod token;

pub use self::audit::{Audit, AuditEvent, AuditRecord};
pub use self::device::{Device, DeviceTokens};
pub use self::email::{Email, EmailError};
pub use self::expiring::ExpiringError;
pub use self::login_throttle::{LoginThrottle, ThrottleError, ThrottleKey, ThrottlePolicy, ThrottledAttempt};
pub use self::password::{
    HashPermit, HashPriority, HashRequest, Password, PasswordConfig, PasswordError, PasswordHasher, PasswordMatch,
    PasswordPolicy,
};
pub use self::reset::{PasswordFingerprint, RESET_LIFETIME, Reset, ResetTokens};
pub use self::service::{ServiceClaims, ServiceCredentialError, ServiceCredentials};
pub use self::session::{
    Issued, Owner, Session, SessionBucketError, SessionConfig, SessionError, SessionInfo, Sessions,
};
pub use self::token::{Grant, TokenIssuer};
