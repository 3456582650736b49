//! Guards made from the environment of a service.

use crate::jwt::{InsecureDev, JwtConfig, JwtConfigError, JwtGuard, UserClaims};
use crate::service::Config;

impl JwtGuard<UserClaims> {
    /// Makes a guard of `JWT_SECRET` (at least 32 bytes, no default), `JWT_ISSUER` (default
    /// `nats-rpc-auth`) and `JWT_AUDIENCE` (default `nats-rpc`), for [`Service::guard`](crate::Service::guard).
    ///
    /// For other sources, or claims of your own, use [`JwtGuard::new`] with a [`JwtConfig`].
    ///
    /// ```no_run
    /// use nats_rpc::prelude::*;
    ///
    /// let service = Service::new("users", "1.0.0").guard(JwtGuard::from_env);
    /// ```
    ///
    /// # Errors
    /// [`JwtConfigError`], naming the variable that is missing, too short or empty.
    pub async fn from_env(_: Config) -> Result<Self, JwtConfigError> {
        Self::new(JwtConfig::from_vars(|name| std::env::var(name).ok())?)
    }
}

impl InsecureDev {
    /// Proves it by `NATS_RPC_INSECURE_DEV=1` and the service's own connection.
    ///
    /// # Errors
    /// As [`InsecureDev::prove`].
    pub fn from_env(config: &Config) -> Result<Self, JwtConfigError> {
        Self::prove(std::env::var(Self::FLAG).ok().as_deref(), config.connection().is_loopback())
    }
}
