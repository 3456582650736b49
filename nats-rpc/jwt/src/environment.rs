//! Token settings of a deployment: a static secret, or else the key ring.

use std::time::Duration;

use nats_rpc::{Connection, ServiceContext, renamed_variable};

use super::revocation::{DEFAULT_MAX_STALE, RevocationBucketError};
use crate::jwks::{KeyPurpose, KeysError};
use crate::{InsecureDev, JwtConfig, JwtConfigError, JwtGuard, KeyRing, Revocations, SecretKey, UserClaims};

/// The secret of access tokens; if it is set, the key ring is not used.
const SECRET: &str = "JWT_SECRET";
/// The secret of assertions, if access tokens use a secret as well.
pub(crate) const ASSERTION_SECRET: &str = "JWT_ASSERTION_SECRET";
const ACCEPT_ASSERTIONS: &str = "JWT_ACCEPT_ASSERTIONS";
const CHECK_REVOCATIONS: &str = "JWT_CHECK_REVOCATIONS";
const MAX_AGE: &str = "JWT_REVOCATION_MAX_AGE_MS";
/// Variables that were renamed.
const RENAMED: [(&str, &str); 2] = [
    ("JWT_WITHOUT_REVOCATIONS", "JWT_CHECK_REVOCATIONS, with the opposite value,"),
    ("JWT_REVOCATIONS_STALE_MS", "JWT_REVOCATION_MAX_AGE_MS"),
];

/// Token settings of a deployment, read before there is a connection.
///
/// [`JwtConfig::load`] reads and opens in one step. Use this type if the process already watches a part of the state,
/// as auth does, which signs with keys of the ring. It does not watch again what the caller passes in.
///
/// ```no_run
/// use nats_rpc_jwt::{JwtGuard, KeyPurpose, SigningKeyConfig, SigningKeys, VerifierConfig};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// let keys = SigningKeys::open(&connection, SigningKeyConfig::new(KeyPurpose::AccessTokens)).await?;
/// let settings = VerifierConfig::from_vars(|name| std::env::var(name).ok())?;
/// let revocations = settings.watch_revocations(&connection).await?;
/// let settings = settings.ring(keys.ring().clone()).revocations(revocations.clone());
/// let guard: JwtGuard = JwtGuard::new(settings.load(&connection).await?)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct VerifierConfig {
    /// `None`: the key ring.
    secret: Option<SecretKey>,
    issuer: Option<String>,
    audience: Option<String>,
    accepts_assertions: bool,
    assertion_secret: Option<SecretKey>,
    checks_revocations: bool,
    max_stale: Duration,
    ring: Option<KeyRing>,
    gateways: Option<KeyRing>,
    revocations: Option<Revocations>,
}

impl VerifierConfig {
    /// Reads the variables of [`JwtConfig::load`] through `vars`.
    ///
    /// # Errors
    /// [`JwtConfigError`] naming the first invalid one.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, JwtConfigError> {
        let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
        renamed_variable(vars, &RENAMED)?;
        let checks_revocations = flag(CHECK_REVOCATIONS, true, vars)?;
        let accepts_assertions = flag(ACCEPT_ASSERTIONS, false, vars)?;
        let secret = SecretKey::optional_from_vars(SECRET, vars)?;
        let assertion_secret = match (&secret, accepts_assertions) {
            (Some(secret), true) => {
                let assertion = SecretKey::from_vars(ASSERTION_SECRET, vars)?;
                secret.distinct_from(&assertion)?;
                Some(assertion)
            }
            _ => None,
        };
        Ok(Self {
            secret,
            issuer: vars("JWT_ISSUER"),
            audience: vars("JWT_AUDIENCE"),
            accepts_assertions,
            assertion_secret,
            checks_revocations,
            max_stale: max_stale(vars)?,
            ring: None,
            gateways: None,
            revocations: None,
        })
    }

    /// Verifies access tokens with this ring, which is watched already: one of [`KeyPurpose::AccessTokens`].
    pub fn ring(mut self, ring: KeyRing) -> Self {
        self.ring = Some(ring);
        self
    }

    /// Verifies assertions, if they are enabled, with this ring, which is watched already: one of
    /// [`KeyPurpose::Assertions`], whose bucket also has the keys of [`KeyPurpose::Peers`].
    pub fn gateways(mut self, ring: KeyRing) -> Self {
        self.gateways = Some(ring);
        self
    }

    /// Rejects tokens that these revocations list, which are watched already, unless revocation checks are disabled.
    pub fn revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// Watches the revocations, with the maximum age of these settings.
    ///
    /// # Errors
    /// Those of [`Revocations::watch`].
    pub async fn watch_revocations(&self, connection: &Connection) -> Result<Revocations, RevocationBucketError> {
        Revocations::watch_signed(connection, self.max_stale, self.secret.as_ref()).await
    }

    /// Watches everything that was not passed in, and builds a guard's configuration from all of it.
    ///
    /// # Errors
    /// [`KeysError::NotProvisioned`] with neither a secret nor a ring, [`KeysError::Revocations`] if those cannot be
    /// watched; otherwise those of [`KeyRing::watch`].
    pub async fn load(self, connection: &Connection) -> Result<JwtConfig, KeysError> {
        let followed = async |known: Option<KeyRing>, purpose| match known {
            Some(ring) => Ok(ring),
            None => KeyRing::watch(connection, purpose).await,
        };
        let mut config = match self.secret.clone() {
            Some(secret) => JwtConfig::hs256(secret),
            None => JwtConfig::ring(followed(self.ring.clone(), KeyPurpose::AccessTokens).await?),
        };
        if let Some(issuer) = &self.issuer {
            config = config.issuer(issuer);
        }
        if let Some(audience) = &self.audience {
            config = config.audience(audience);
        }
        if self.checks_revocations {
            config = config.revocations(match self.revocations.clone() {
                Some(revocations) => revocations,
                None => self.watch_revocations(connection).await?,
            });
        }
        if self.accepts_assertions {
            config = match self.assertion_secret {
                Some(secret) => config.forwarded_assertion(secret),
                None => config.forwarded_assertion_ring(followed(self.gateways, KeyPurpose::Assertions).await?),
            };
        }
        Ok(config)
    }
}

impl JwtConfig {
    /// Creates a configuration for the tokens that this deployment issues, through `vars`.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `JWT_SECRET` | the static secret, at least 32 bytes. Not set: keys come from the [ring](KeyRing::watch) in the KV bucket `auth_jwks` | none |
    /// | `JWT_ISSUER` | the only accepted issuer | `nats-rpc-auth` with a secret; a ring key's own |
    /// | `JWT_AUDIENCE` | the accepted audience | `nats-rpc` |
    /// | `JWT_ACCEPT_ASSERTIONS` | `true`: accepts a gateway's [assertion](crate::AssertionSigner) instead of a token. The ring in `gw_jwks` verifies it, with a static secret `JWT_ASSERTION_SECRET` | `false` |
    /// | `JWT_CHECK_REVOCATIONS` | `false` disables revocation checks: a revoked token stays valid until it expires. For tokens of a NestJS system without our auth service | `true`: [`Revocations::watch`] in the KV bucket `auth_rev` |
    /// | `JWT_REVOCATION_MAX_AGE_MS` | maximum age of the revocation list, in ms, 1,000 to 3,600,000. When it is older, guards reply 503. With less than 10,000, an election of the bucket's leader is an outage | 30000 |
    ///
    /// A file may hold a secret: `JWT_SECRET_FILE` and `JWT_ASSERTION_SECRET_FILE` name it.
    ///
    /// [`VerifierConfig`] does it in steps, for a process that already watches a part of this.
    ///
    /// ```no_run
    /// use nats_rpc_jwt::{JwtConfig, JwtGuard};
    /// use std::time::Duration;
    ///
    /// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let config = JwtConfig::load(&connection, |name| std::env::var(name).ok()).await?;
    /// let guard: JwtGuard = JwtGuard::new(config.leeway(Duration::from_secs(2)))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`KeysError::Config`] naming the invalid variable; otherwise those of [`VerifierConfig::load`].
    pub async fn load(connection: &Connection, vars: impl Fn(&str) -> Option<String>) -> Result<Self, KeysError> {
        VerifierConfig::from_vars(vars)?.load(connection).await
    }

    /// Checks that [`load`](Self::load) can use these variables, as far as possible without a connection.
    ///
    /// # Errors
    /// [`JwtConfigError`] naming the first invalid one.
    pub fn check_vars(vars: impl Fn(&str) -> Option<String>) -> Result<(), JwtConfigError> {
        VerifierConfig::from_vars(vars).map(drop)
    }
}

fn max_stale(vars: impl Fn(&str) -> Option<String>) -> Result<Duration, JwtConfigError> {
    let Some(text) = vars(MAX_AGE) else { return Ok(DEFAULT_MAX_STALE) };
    let millis = text.parse().ok().filter(|millis| (1_000..=3_600_000).contains(millis));
    let wanted = "a number of milliseconds from 1000 to 3600000";
    millis.map(Duration::from_millis).ok_or(JwtConfigError::Variable { name: MAX_AGE, wanted })
}

/// Reads a Boolean setting; returns `default` if it is not set.
fn flag(name: &'static str, default: bool, vars: impl Fn(&str) -> Option<String>) -> Result<bool, JwtConfigError> {
    match vars(name).as_deref() {
        None | Some("") => Ok(default),
        Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(JwtConfigError::Variable { name, wanted: "true or false" }),
    }
}

impl JwtGuard<UserClaims> {
    /// Checks that [`from_env`](Self::from_env) can use the environment. For
    /// [`Service::check`](nats_rpc::Service::check), before there is a connection.
    ///
    /// # Errors
    /// Those of [`JwtConfig::check_vars`].
    pub fn check_env() -> Result<(), JwtConfigError> {
        JwtConfig::check_vars(|name| std::env::var(name).ok())
    }

    /// Creates a guard from the environment, for [`Service::guard`](nats_rpc::Service::guard): from `JWT_SECRET`, or
    /// else from the key ring that auth instances publish. [`JwtConfig::load`] lists all variables.
    ///
    /// For other sources or your own claims type, use [`JwtGuard::new`] with a [`JwtConfig`].
    ///
    /// ```no_run
    /// use nats_rpc::prelude::*;
    /// use nats_rpc_jwt::prelude::*;
    ///
    /// let service = Service::new("users", "1.0.0").check(JwtGuard::check_env).guard(JwtGuard::from_env);
    /// ```
    ///
    /// # Errors
    /// Those of [`JwtConfig::load`].
    pub async fn from_env(context: ServiceContext) -> Result<Self, KeysError> {
        Self::from_vars(context, |name| std::env::var(name).ok()).await
    }

    /// Creates a guard like [`from_env`](Self::from_env), with variables from elsewhere.
    ///
    /// # Errors
    /// Those of [`JwtConfig::load`].
    pub async fn from_vars(context: ServiceContext, vars: impl Fn(&str) -> Option<String>) -> Result<Self, KeysError> {
        Ok(Self::new(JwtConfig::load(context.connection(), vars).await?)?)
    }
}

impl InsecureDev {
    /// Creates the proof from `NATS_RPC_INSECURE_DEV=1` and the service's own connection.
    ///
    /// # Errors
    /// Those of [`InsecureDev::prove`].
    pub fn from_env(context: &ServiceContext) -> Result<Self, JwtConfigError> {
        Self::prove(std::env::var(Self::FLAG).ok().as_deref(), context.connection().is_loopback())
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
            &[accept, (CHECK_REVOCATIONS, "false")],
            &[(MAX_AGE, "1000")],
            &[(MAX_AGE, "")],
        ] {
            assert_eq!(check(good), Ok(()), "{good:?}");
        }
        for bad in ["999", "3600001", "-1", "30s"] {
            assert!(matches!(check(&[(MAX_AGE, bad)]), Err(JwtConfigError::Variable { name: MAX_AGE, .. })), "{bad}");
        }
        let flag = |name| Err(JwtConfigError::Variable { name, wanted: "true or false" });
        assert_eq!(check(&[(CHECK_REVOCATIONS, "maybe")]), flag(CHECK_REVOCATIONS));
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
    fn renamed_variable_is_rejected_with_its_new_name() {
        for (old, new) in RENAMED {
            let Err(JwtConfigError::Renamed(error)) = check(&[(old, "true")]) else { panic!("{old} is read") };
            assert_eq!((error.old, error.new), (old, new));
            assert!(error.to_string().contains(old) && error.to_string().contains(new), "{error}");
            assert_eq!(check(&[(old, "")]), Ok(()));
        }
    }

    #[test]
    fn the_environment_is_checked_as_variables_are() {
        const CHILD: &str = "NATS_RPC_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            assert!(JwtGuard::check_env().is_err());
            return;
        }
        // The environment belongs to the whole process, so this test runs itself in a separate process.
        let this =
            format!("{}::the_environment_is_checked_as_variables_are", module_path!().split_once("::").unwrap().1);
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let ran = child.args(["--exact", &this]).env(CHILD, "1").env(SECRET, "short").output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    }

    #[test]
    fn a_flag_is_on_off_or_refused() {
        let read = |value: &'static str| flag(ACCEPT_ASSERTIONS, false, move |_| Some(value.to_owned()));
        for default in [false, true] {
            assert_eq!(flag(ACCEPT_ASSERTIONS, default, |_| None), Ok(default));
            assert_eq!(flag(ACCEPT_ASSERTIONS, default, |_| Some(String::new())), Ok(default));
        }
        for (value, on) in [("", false), ("0", false), ("false", false), ("1", true), ("true", true)] {
            assert_eq!(read(value), Ok(on), "{value:?}");
        }
        for value in ["yes", "TRUE", " 1"] {
            assert!(matches!(read(value), Err(JwtConfigError::Variable { name: ACCEPT_ASSERTIONS, .. })), "{value:?}");
        }
    }
}
