//!
//! - [`TokenIssuer`] signs the access tokens that a [`JwtGuard`](crate::JwtGuard) takes, 15 min each.
//! - [`Email`] is an address in the one form that accounts are found by.

mod email;
mod token;

pub use self::email::{Email, EmailError};
pub use self::token::{Grant, TokenIssuer};
