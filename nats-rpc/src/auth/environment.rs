//! What a deployment says of tokens: a static secret, or else the key ring.

use super::keys::{KeyPurpose, KeysError};
use crate::connection::Connection;
use crate::jwt::{InsecureDev, JwtConfig, JwtConfigError, JwtGuard, KeyRing, Revocations, SecretKey, UserClaims};
use crate::service::Config;

/// The secret of access tokens; where it is set there is no key ring.
const SECRET: &str = "JWT_SECRET";
/// The secret of assertions, where access tokens have one as well.
pub(crate) const ASSERTION_SECRET: &str = "JWT_ASSERTION_SECRET";
const ACCEPT_ASSERTIONS: &str = "JWT_ACCEPT_ASSERTIONS";
const WITHOUT_REVOCATIONS: &str = "JWT_WITHOUT_REVOCATIONS";

impl JwtConfig {
    /// Takes the tokens that this deployment issues, by way of `vars`.
    ///
    /// | variable | is | default |
    /// |---|---|---|
    /// | `JWT_SECRET` | the static secret, at least 32 bytes. Not set: keys come from the [ring](KeyRing::follow) in the KV bucket `auth_jwks` | none |
    /// | `JWT_ISSUER` | the only issuer taken | `nats-rpc-auth` with a secret; a ring key's own |
    /// | `JWT_AUDIENCE` | the audience | `nats-rpc` |
    /// | `JWT_ACCEPT_ASSERTIONS` | `true`: a gateway's [assertion](crate::jwt::AssertionSigner) is taken in place of a token, by the ring in `gw_jwks`, with a static secret by `JWT_ASSERTION_SECRET` | `false` |
    /// | `JWT_WITHOUT_REVOCATIONS` | `true`: what was revoked is taken until it expires, as where tokens are a NestJS system's and no auth service of ours runs | `false`: [`Revocations::follow`] in the KV bucket `auth_rev` |
    ///
    /// ```no_run
    /// use nats_rpc::{JwtConfig, JwtGuard};
    /// use std::time::Duration;
    ///
    /// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let config = JwtConfig::open(&connection, |name| std::env::var(name).ok()).await?;
    /// let guard: JwtGuard = JwtGuard::new(config.leeway(Duration::from_secs(2)))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`KeysError::Config`] naming the variable that cannot be used; with neither a secret nor a ring,
    /// [`KeysError::NotProvisioned`]; [`KeysError::Revocations`] if those cannot be followed; otherwise as
    /// [`KeyRing::follow`].
    pub async fn open(connection: &Connection, vars: impl Fn(&str) -> Option<String>) -> Result<Self, KeysError> {
        Self::check_vars(&vars)?;
        let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
        let is_static = vars(SECRET).is_some();
        let mut config = match is_static {
            true => Self::from_vars(vars)?,
            false => {
                let mut config = Self::ring(KeyRing::follow(connection, KeyPurpose::AccessTokens).await?);
                if let Some(issuer) = vars("JWT_ISSUER") {
                    config = config.issuer(issuer);
                }
                if let Some(audience) = vars("JWT_AUDIENCE") {
                    config = config.audience(audience);
                }
                config
            }
        };
        if !flag(WITHOUT_REVOCATIONS, vars)? {
            config = config.revocations(Revocations::follow(connection).await?);
        }
        if flag(ACCEPT_ASSERTIONS, vars)? {
            config = match is_static {
                true => config.forwarded_assertion(SecretKey::from_vars(ASSERTION_SECRET, vars)?),
                false => config.forwarded_assertion_ring(KeyRing::follow(connection, KeyPurpose::Assertions).await?),
            };
        }
        Ok(config)
    }

    /// Whether [`open`](Self::open) can use these variables, as far as that can be told without a connection.
    ///
    /// # Errors
    /// [`JwtConfigError`] naming the first that cannot be used.
    pub fn check_vars(vars: impl Fn(&str) -> Option<String>) -> Result<(), JwtConfigError> {
        let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
        flag(WITHOUT_REVOCATIONS, vars)?;
        let assertions = flag(ACCEPT_ASSERTIONS, vars)?;
        if vars(SECRET).is_none() {
            return Ok(());
        }
        let mut config = Self::from_vars(vars)?;
        if assertions {
            config = config.forwarded_assertion(SecretKey::from_vars(ASSERTION_SECRET, vars)?);
        }
        config.check()
    }
}

/// Reads a setting that is on or off.
fn flag(name: &'static str, vars: impl Fn(&str) -> Option<String>) -> Result<bool, JwtConfigError> {
    match vars(name).as_deref() {
        None | Some("" | "0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(JwtConfigError::Variable { name, wanted: "true or false" }),
    }
}

impl JwtGuard<UserClaims> {
    /// Whether [`from_env`](Self::from_env) can use the environment, for [`Service::check`](crate::Service::check):
    /// before there is a connection.
    ///
    /// # Errors
    /// As [`JwtConfig::check_vars`].
    pub fn check_env() -> Result<(), JwtConfigError> {
        JwtConfig::check_vars(|name| std::env::var(name).ok())
    }

    /// Makes a guard of the environment, for [`Service::guard`](crate::Service::guard): of `JWT_SECRET`, or
    /// else of the key ring that auth instances publish. [`JwtConfig::open`] has all variables.
    ///
    /// For other sources, or claims of your own, use [`JwtGuard::new`] with a [`JwtConfig`].
    ///
    /// ```no_run
    /// use nats_rpc::prelude::*;
    ///
    /// let service = Service::new("users", "1.0.0").check(JwtGuard::check_env).guard(JwtGuard::from_env);
    /// ```
    ///
    /// # Errors
    /// As [`JwtConfig::open`].
    pub async fn from_env(config: Config) -> Result<Self, KeysError> {
        Self::from_vars(config, |name| std::env::var(name).ok()).await
    }

    /// As [`from_env`](Self::from_env), with variables from elsewhere.
    ///
    /// # Errors
    /// As [`JwtConfig::open`].
    pub async fn from_vars(config: Config, vars: impl Fn(&str) -> Option<String>) -> Result<Self, KeysError> {
        Ok(Self::new(JwtConfig::open(config.connection(), vars).await?)?)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vars: &[(&str, &str)]) -> Result<(), JwtConfigError> {
        let value = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        JwtConfig::check_vars(value)
    }

    #[test]
    fn what_cannot_be_used_is_told_without_a_connection() {
        let (secret, other) = ("an access secret of more than 32 bytes", "an assertion secret of more than 32 bytes");
        let accept = (ACCEPT_ASSERTIONS, "true");
        for good in [
            &[][..],
            &[(SECRET, "")],
            &[(SECRET, secret), (ASSERTION_SECRET, "short"), (ACCEPT_ASSERTIONS, "")],
            &[(SECRET, secret), (ASSERTION_SECRET, other), accept],
            &[accept, (WITHOUT_REVOCATIONS, "true")],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        let flag = |name| Err(JwtConfigError::Variable { name, wanted: "true or false" });
        assert_eq!(check(&[(WITHOUT_REVOCATIONS, "maybe")]), flag(WITHOUT_REVOCATIONS));
        assert_eq!(check(&[(ACCEPT_ASSERTIONS, "maybe")]), flag(ACCEPT_ASSERTIONS));
        for bad in [
            &[(SECRET, "short")][..],
            &[(SECRET, secret), accept],
            &[(SECRET, secret), (ASSERTION_SECRET, "short"), accept],
            &[(SECRET, secret), (ASSERTION_SECRET, secret), accept],
        ] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_environment_is_checked_as_variables_are() {
        const CHILD: &str = "NATS_RPC_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            assert!(JwtGuard::check_env().is_err());
            return;
        }
        // An environment is that of a whole process, so this test runs itself in one of its own.
        let this =
            format!("{}::the_environment_is_checked_as_variables_are", module_path!().split_once("::").unwrap().1);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = child.args(["--exact", &this]).env(CHILD, "1").env(SECRET, "short").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_flag_is_on_off_or_refused() {
        let read = |value: &'static str| flag(ACCEPT_ASSERTIONS, move |_| Some(value.to_owned()));
        assert_eq!(flag(ACCEPT_ASSERTIONS, |_| None), Ok(false));
        for (value, on) in [("", false), ("0", false), ("false", false), ("1", true), ("true", true)] {
            assert_eq!(read(value), Ok(on), "{value:?}");
        }
        for value in ["yes", "TRUE", " 1"] {
            assert!(matches!(read(value), Err(JwtConfigError::Variable { name: ACCEPT_ASSERTIONS, .. })), "{value:?}");
        }
    }
}
