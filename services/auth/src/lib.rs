//! Sign-up, log-in, rotating sessions, log-out, roles.
//!
//! - [`service`] is the service: its handlers, the buckets behind them, and the command `roles`.
//! - [`account`] holds what an account is, and the bucket `auth_users` that only this service opens.
//! - `authority` is what the handlers do.
//! - `rate` bounds how fast a caller can find out which addresses have signed up.
//! - `roles` is `auth roles grant|revoke <email> <role>`.
//!
//! | subject | data | answers |
//! |---|---|---|
//! | `auth.signup` | `{email, password}` | `{userId, accessToken, refreshToken}`; 409 if the address has an account, 429 if too many sign up |
//! | `auth.login` | `{email, password}` | `{accessToken, refreshToken}`; 401, whichever of the two is wrong |
//! | `auth.refresh` | `{refreshToken}` | `{accessToken, refreshToken}`; 401 |
//! | `auth.logout` | `{refreshToken}` | nothing, also for a session that has ended |
//!
//! Emits `user.created` with `{userId}`, and what happened as [`AuditEvent`](nats_rpc::auth::AuditEvent)s
//! below `auth.audit.`. Anybody may call these subjects; a password or a refresh token is
//! the proof.

pub mod account;
mod authority;
mod config;
mod handlers;
mod rate;
mod roles;

use std::error::Error;

use async_nats::jetstream;
use nats_rpc::auth::Sessions;
use nats_rpc::{KvAccess, Service, discover};
use users::{Replicas, Users};

use self::account::Accounts;
use self::authority::Authority;
pub use self::config::{Settings, SettingsError};

/// The auth service.
///
/// `vars` is where settings come from: the environment in `main`, a list in a test. They are read when the
/// service starts, so `routes` and `provision` need no secrets. [`Settings`] names them.
pub fn service(vars: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Service {
    let for_provision = vars.clone();
    Service::new("auth", env!("CARGO_PKG_VERSION"))
        .description("Sign-up, log-in, rotating sessions, log-out, roles")
        .handlers(discover!())
        .publishes("auth.audit.>")
        .publishes("user.created")
        .uses_bucket(KvAccess::to("auth_users").read().write())
        .uses_bucket(KvAccess::to("auth_sess").read().write())
        .uses_bucket(KvAccess::to("users").read().write())
        .provide_with(move |config| async move { Authority::open(config, Settings::from_vars(vars)?).await })
        .provision(move |config| async move {
            let replicas = Replicas::from_vars(for_provision)?;
            provision(&config.jetstream(), replicas).await
        })
        .command("roles", "grant|revoke <email> <role>", roles::run)
}

/// Creates the buckets `auth_users`, `auth_sess` and `users`; those that exist keep what they hold.
///
/// # Errors
/// If JetStream refuses or does not answer.
pub async fn provision(jetstream: &jetstream::Context, replicas: Replicas) -> Result<(), Box<dyn Error + Send + Sync>> {
    Accounts::provision(jetstream, replicas).await?;
    Sessions::provision(jetstream, replicas.get()).await?;
    Users::provision(jetstream, replicas).await?;
    Ok(())
}
