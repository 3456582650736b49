//! The auth service: sign-up, log-in, rotating sessions, log-out, keys, roles.
//!
//! - [`service`]: the service with its handlers, the buckets behind them, and its commands
//! - [`account`]: accounts, and the bucket `auth_users` that only this service opens. The bucket contains the accounts
//!   and an index from user ids to accounts. The service never trusts the profiles in `users`.
//! - `authority`: the implementation of the handlers
//! - `login_throttle`: limits on the rate of password guesses, and on tests for addresses that have signed up
//! - `caller`: the properties of a caller before its password is checked: source, device, deadline
//! - `rate`: a rate limit shared by all callers
//! - `keys`: the keys that sign access tokens, and `auth keys list|rotate|retire <kid>`
//! - `trust`: the keys that sign and verify tokens, watched once for all users of them
//! - [`standing`]: operator commands on users
//! - `users_command`: `auth users lock|unlock|delete|log-out <email>` and `auth users log-out-everybody`;
//!   `look_alikes`: `auth users look-alikes`; `services_command`: `auth services add|remove <name>`
//! - `roles`: `auth roles grant|revoke <email> <role>`; `reset_token`: `auth password reset-token <email>`
//!
//! | subject | data | reply |
//! |---|---|---|
//! | `auth.signup` | `{email, password}` | `{userId, accessToken, refreshToken, deviceToken}`; 409 if the address has an account, 429 after too many sign-ups |
//! | `auth.login` | `{email, password}`, optionally a device token in the header `nrpc-device` | `{accessToken, refreshToken, deviceToken}`; 401 if either is wrong; 429 after too many failures, 503 with `retryAfterMs` while the hashing queue is full |
//! | `auth.refresh` | `{refreshToken}` | `{accessToken, refreshToken}`; 401 |
//! | `auth.logout` | `{refreshToken}` | empty, also for a session that has ended |
//! | `auth.jwks` | | the public keys of access tokens, as a JWK Set; none with `JWT_SECRET` |
//! | `auth.logout_all` | with an access token | empty; every session and token of the caller has ended |
//! | `auth.sessions` | with an access token | `{sessions: [{id, current, createdAt, refreshedAt, expiresAt}]}`, in seconds since 1970 |
//! | `auth.sessions.end` | `{sessionId}`, with an access token | empty; 404 if the caller has no such session |
//! | `auth.introspect` | `{token}`, with the credential of a service that may `introspect` | `{active, token_type, sub, exp, iat, sid, iss, aud, jti, roles, scope}`, or `{active: false}` (RFC 7662) |
//! | `auth.revoke` | one of `{token}`, `{sub}`, `{sid}`, `{jti}`, with the credential of a service that may `revoke` | empty, also for an ended token or session (RFC 7009) |
//! | `auth.password.change` | `{currentPassword, newPassword}`, with an access token | `{accessToken, refreshToken, deviceToken}` of a new session, every other one has ended; 403 if the current password is wrong |
//! | `auth.password.reset.request` | `{email}` | empty, whether the address has an account or not; 404 if no mailer is set up |
//! | `auth.password.reset.confirm` | `{token, newPassword}` | empty; every session has ended; 401 if the token is invalid or was used |
//!
//! The reply to an unacceptable password is a 400 whose details contain the reason: `{"reason":"common"}`, or
//! `personal`, `pattern`, `too_short`, `too_long`, `nul`. A 429 contains the time to wait in `retryAfterMs`.
//!
//! Emits `user.created` with `{userId}`, and [`AuditEvent`](nats_rpc_auth::AuditEvent)s below `auth.audit.`. Any
//! client may call these subjects: a password or a refresh token authenticates the caller.

pub mod account;
mod authority;
mod caller;
mod config;
mod handlers;
mod keys;
mod login_throttle;
mod look_alikes;
mod rate;
mod reset_token;
mod roles;
mod services_command;
mod session_handlers;
pub mod standing;
mod trust;
mod users_command;

use std::error::Error;

use async_nats::jetstream;
use nats_rpc::{KvAccess, KvApiPrefixes, Service, ServiceContext, discover};
use nats_rpc_auth::{LoginThrottle, ResetTokens, ServiceCredentials, Sessions};
use nats_rpc_jwt::{JwksBucket, KeyPurpose, Revoker, TrustBuckets};
use nats_rpc_jwt::{JwtConfig, JwtGuard};
use users::{Replicas, Users};

use self::account::Accounts;
use self::authority::Authority;
pub use self::config::{Settings, SettingsError};
use self::trust::{SharedTrust, Trust};

type BoxError = Box<dyn Error + Send + Sync>;

/// Returns the auth service.
///
/// `vars` supplies the settings: the environment in `main`, a list in a test. The service reads them at startup, so
/// `routes` and `provision` need no secrets. [`Settings`] lists them.
pub fn service(vars: impl Fn(&str) -> Option<String> + Clone + Send + Sync + 'static) -> Service {
    let (for_provision, for_guard, for_peers, for_check) = (vars.clone(), vars.clone(), vars.clone(), vars.clone());
    let buckets = TrustBuckets::from_vars(&vars);
    // An invalid value is reported when the connection is opened.
    let profiles_api = KvApiPrefixes::from_vars(&vars).unwrap_or_default().of("users").map(str::to_owned);
    let has_profiles = profiles_api.is_none();
    let revocations = buckets.revocations().read().write();
    let revocations =
        if buckets.has_own_account() { revocations.subscribe("watch.auth_beacon.ask") } else { revocations };
    let trust = SharedTrust::default();
    let (trust_of_peers, trust_of_guard) = (trust.clone(), trust.clone());
    // The mailer's subject, if there is one; `Settings` reports an invalid one.
    let mailer = vars("PASSWORD_RESET_SUBJECT").filter(|subject| !subject.is_empty());
    let service = Service::new("auth", env!("CARGO_PKG_VERSION"))
        .description("Sign-up, log-in, rotating sessions, log-out, keys, roles")
        .handlers(discover!())
        .publishes("auth.audit.>")
        .publishes("user.created")
        .uses_bucket(KvAccess::to("auth_users").read().write())
        .uses_bucket(KvAccess::to("auth_sess").read().write())
        .uses_bucket(KvAccess::to("auth_backoff").read().write())
        .uses_bucket(KvAccess::to("auth_reset").read().write())
        .uses_bucket(buckets.keys(KeyPurpose::AccessTokens).write())
        .uses_bucket(buckets.keys(KeyPurpose::Assertions).write())
        .uses_bucket(revocations)
        .uses_bucket(KvAccess::to("auth_services").read().write())
        .uses_bucket(match profiles_api {
            None => KvAccess::to("users").read().write(),
            Some(prefix) => KvAccess::to("users").read().write().in_account("APP", prefix),
        })
        .check(move || {
            Settings::from_vars(&for_check)?;
            JwtConfig::check_vars(&for_check).map_err(BoxError::from)
        })
        .provide_with(move |config| async move {
            let trust = trust.open(&config, &vars).await?;
            Authority::open(config, Settings::from_vars(vars)?, trust).await
        })
        .provide_with(move |config| async move { trust_of_peers.open(&config, for_peers).await.map(Trust::peers) })
        .guard(move |context: ServiceContext| async move {
            let trust = trust_of_guard.open(&context, for_guard).await?;
            Ok::<JwtGuard, BoxError>(JwtGuard::new(trust.guard(context.connection()).await?)?)
        })
        .provision(move |config| async move {
            let replicas = Replicas::from_vars(for_provision)?;
            provision_own(&config.jetstream(), replicas).await?;
            // In another account, `users provision` creates them.
            if has_profiles {
                Users::provision(&config.jetstream(), replicas).await?;
            }
            Ok::<_, BoxError>(())
        })
        .guard(async |context: ServiceContext| ServiceCredentials::open(context.connection()).await)
        .command("keys", "list | rotate | retire <kid>", keys::run)
        .command("users", "lock|unlock|delete|log-out <email>, log-out-everybody, or look-alikes", users_command::run)
        .command("services", "add <name> introspect|revoke ..., or remove <name>", services_command::run)
        .command("roles", "grant|revoke <email> <role>", roles::run)
        .command("password", "reset-token <email>", reset_token::run);
    let service = match mailer {
        Some(subject) => service.publishes(subject),
        None => service,
    };
    if !buckets.has_own_account() {
        return service;
    }
    // Exports the events about users; audit events and mailer events never leave the account.
    let account = buckets.exports("GATEWAY").export_stream("user.created");
    service.publishes("watch.auth_beacon").publishes("watch.auth_beacon.ask").account(account)
}

/// Creates the buckets of [`provision_own`], and `users`: all buckets that the system needs in one account.
///
/// # Errors
/// If JetStream rejects a request or does not reply.
pub async fn provision(jetstream: &jetstream::Context, replicas: Replicas) -> Result<(), Box<dyn Error + Send + Sync>> {
    provision_own(jetstream, replicas).await?;
    Users::provision(jetstream, replicas).await?;
    Ok(())
}

/// Creates the buckets that decide trust: `auth_users`, `auth_sess`, `auth_rev`, `auth_services`, `auth_backoff`,
/// `auth_reset`, `auth_jwks` and `gw_jwks`; existing ones keep their content.
///
/// # Errors
/// If JetStream rejects a request or does not reply.
pub async fn provision_own(
    jetstream: &jetstream::Context,
    replicas: Replicas,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    Accounts::provision(jetstream, replicas).await?;
    Sessions::provision(jetstream, replicas.get()).await?;
    Revoker::provision(jetstream, replicas.get()).await?;
    ServiceCredentials::provision(jetstream, replicas.get()).await?;
    LoginThrottle::provision(jetstream, replicas.get()).await?;
    ResetTokens::provision(jetstream, replicas.get()).await?;
    JwksBucket::provision(jetstream, KeyPurpose::AccessTokens, replicas.get()).await?;
    JwksBucket::provision(jetstream, KeyPurpose::Assertions, replicas.get()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nats_rpc::{NatsConfig, StartError};

    use super::*;

    const SECRETS: [(&str, &str); 2] = [
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("JWT_REFRESH_SECRET", "fedcba9876543210fedcba9876543210"),
    ];

    /// Returns the error of a startup without a nats-server.
    async fn refused(vars: &'static [(&'static str, &'static str)]) -> StartError {
        let service = service(move |name| {
            let of_name = |(known, _): &&(&str, &str)| *known == name;
            vars.iter().find(of_name).or_else(|| SECRETS.iter().find(of_name)).map(|(_, value)| (*value).to_owned())
        });
        // No server listens at port 1.
        let nobody = NatsConfig::new("nats://127.0.0.1:1").connect_timeout(Duration::from_millis(50));
        service.start(nobody).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_missing_secret_or_a_bad_setting_is_named_before_the_wait_for_nats_server() {
        for (vars, named) in [
            (&[("JWT_REFRESH_SECRET", "")][..], "JWT_REFRESH_SECRET is not set"),
            (&[("JWT_SECRET", "your-secret-key")], "JWT_SECRET has 15 bytes"),
            (&[("BCRYPT_COST", "3")], "BCRYPT_COST must be"),
            (&[("JWT_CHECK_REVOCATIONS", "maybe")], "JWT_CHECK_REVOCATIONS must be"),
            (&[("JWT_WITHOUT_REVOCATIONS", "true")], "JWT_WITHOUT_REVOCATIONS was renamed; set JWT_CHECK_REVOCATIONS"),
            (&[("KEY_MARGIN_MS", "250")], "KEY_MARGIN_MS was renamed; set KEY_ACTIVATION_DELAY_MS"),
            (&[("JWT_ACCEPT_ASSERTIONS", "true")], "JWT_ASSERTION_SECRET is not set"),
        ] {
            let error = refused(vars).await;
            assert!(matches!(&error, StartError::Invalid(lines) if lines.len() == 1), "{error}");
            assert!(error.to_string().contains(named), "{error}");
        }
        let error = refused(&[]).await;
        assert!(matches!(error, StartError::Connect(_)), "{error}");
    }
}
