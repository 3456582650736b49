//! What an auth service is made of: access tokens, sessions, passwords, e-mail addresses.
//!
//! - [`TokenIssuer`] signs the access tokens that a [`JwtGuard`](crate::JwtGuard) takes, 15 min each.
//! - [`Sessions`] keeps sessions in JetStream KV and rotates their refresh tokens.
//! - [`Passwords`] hashes with bcrypt, beside the workers that serve requests.
//! - [`Audit`] tells what happened, by ids and hashes alone.
//! - [`Email`] is an address in the one form that accounts are found by.

mod audit;
mod email;
mod password;
mod session;
mod token;

pub use self::audit::{Audit, AuditEvent, AuditRecord};
pub use self::email::{Email, EmailError};
pub use self::password::{Password, PasswordConfig, PasswordError, Passwords};
pub use self::session::{Issued, Owner, Session, SessionBucketError, SessionConfig, SessionError, Sessions};
pub use self::token::{Grant, TokenIssuer};
