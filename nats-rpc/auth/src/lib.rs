//! Parts of an auth service.
//!
//! - [`TokenIssuer`] signs the access tokens that a [`JwtGuard`](nats_rpc_jwt::JwtGuard) takes, 15 min each.
//! - [`Sessions`] keeps sessions in JetStream KV and rotates their refresh tokens.
//! - [`ServiceCredentials`] are what services prove themselves with that may do more than any user.
//! - [`PasswordHasher`] hashes with bcrypt, beside the workers that serve requests.
//! - [`Audit`] tells what happened, by ids and hashes alone.
//! - [`LoginThrottle`] counts failed attempts and makes the next ones wait.
//! - [`DeviceTokens`] let a device that a user has logged in with before be known again.
//! - [`PasswordPolicy`] refuses passwords that are guessed first.
//! - [`ResetTokens`] let the owner of a mailbox choose another password.
//! - [`Email`] is an address in the one form that accounts are found by.
//!
//! Signing keys ([`SigningKeys`](nats_rpc_jwt::SigningKeys)) and revocations ([`Revoker`](nats_rpc_jwt::Revoker)) are in
//! nats-rpc-jwt: gateways sign too, and both ends of a bucket have one format.

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
