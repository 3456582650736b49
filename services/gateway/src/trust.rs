//! Whose tokens are believed, and whether the gateway vouches for their bearers.

use nats_rpc::auth::{KeyPurpose, KeysError, SigningKeyConfig, SigningKeys};
use nats_rpc::jwt::{AssertionSigner, DEFAULT_AUDIENCE, KeyRing, Revocations};
use nats_rpc::{Connection, JwtConfig, JwtGuard, SecretKey};

use crate::config::ConfigError;

/// Decided by the settings, before there is a connection.
#[derive(Debug)]
pub(crate) enum Trust {
    /// What this guard takes; tokens are passed on.
    Guard(JwtGuard),
    /// What the settings say.
    Settings(Settings),
}

#[derive(Debug)]
pub(crate) struct Settings {
    keys: Keys,
    /// Whether what was revoked is refused.
    revocations: bool,
}

#[derive(Debug)]
enum Keys {
    /// A static secret; with a signer, the gateway vouches with another.
    Secret(Box<JwtConfig>, Option<AssertionSigner>),
    /// Tokens of the key ring; with `assertions`, the gateway vouches with a key of its own.
    Ring { issuer: Option<String>, audience: Option<String>, assertions: bool },
}

/// The same with its keys.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) guard: JwtGuard,
    pub(crate) signer: Option<AssertionSigner>,
}

impl Trust {
    pub(crate) fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let assertions = flag("GATEWAY_SEND_ASSERTIONS", &vars)?;
        let revocations = !flag("JWT_WITHOUT_REVOCATIONS", &vars)?;
        let keys = Keys::from_vars(assertions, vars)?;
        Ok(Self::Settings(Settings { keys, revocations }))
    }

    /// Follows the ring and the revocations, and publishes the gateway's own key, as the settings say.
    pub(crate) async fn open(self, connection: &Connection) -> Result<Trusted, KeysError> {
        let Settings { keys, revocations } = match self {
            Self::Guard(guard) => return Ok(Trusted { guard, signer: None }),
            Self::Settings(settings) => settings,
        };
        let (mut config, signer) = keys.open(connection).await?;
        if revocations {
            config = config.revocations(Revocations::follow(connection).await?);
        }
        Ok(Trusted { guard: JwtGuard::new(config)?, signer })
    }
}

impl Keys {
    fn from_vars(assertions: bool, vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (issuer, audience) = (vars("JWT_ISSUER"), vars("JWT_AUDIENCE"));
        if vars("JWT_SECRET").is_none() {
            return Ok(Self::Ring { issuer, audience, assertions });
        }
        let config = Box::new(JwtConfig::from_vars(&vars)?);
        if !assertions {
            return Ok(Self::Secret(config, None));
        }
        let secret = SecretKey::from_vars("JWT_ASSERTION_SECRET", &vars)?;
        SecretKey::from_vars("JWT_SECRET", &vars)?.distinct_from(&secret)?;
        Ok(Self::Secret(config, Some(AssertionSigner::hs256(&secret).audience(or_default(audience)))))
    }

    async fn open(self, connection: &Connection) -> Result<(JwtConfig, Option<AssertionSigner>), KeysError> {
        let (issuer, audience, assertions) = match self {
            Self::Secret(config, signer) => return Ok((*config, signer)),
            Self::Ring { issuer, audience, assertions } => (issuer, audience, assertions),
        };
        let mut config = JwtConfig::ring(KeyRing::follow(connection, KeyPurpose::AccessTokens).await?);
        if let Some(issuer) = issuer {
            config = config.issuer(issuer);
        }
        if let Some(audience) = &audience {
            config = config.audience(audience);
        }
        if !assertions {
            return Ok((config, None));
        }
        let keys = SigningKeys::open(connection, SigningKeyConfig::new(KeyPurpose::Assertions)).await?;
        Ok((config, Some(keys.assertion_signer().audience(or_default(audience)))))
    }
}

fn or_default(audience: Option<String>) -> String {
    audience.unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned())
}

fn flag(name: &'static str, vars: impl Fn(&str) -> Option<String>) -> Result<bool, ConfigError> {
    match vars(name).as_deref() {
        None | Some("0" | "false") => Ok(false),
        Some("1" | "true") => Ok(true),
        Some(_) => Err(ConfigError::Variable { name, wanted: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc::jwt::JwtConfigError;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn from(vars: &[(&str, &str)]) -> Result<Trust, ConfigError> {
        Trust::from_vars(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn keys(vars: &[(&str, &str)]) -> Keys {
        match from(vars) {
            Ok(Trust::Settings(settings)) => settings.keys,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_and_the_ring_are_two_modes_that_never_mix() {
        assert!(matches!(keys(&[("JWT_SECRET", SECRET)]), Keys::Secret(_, None)));
        assert!(matches!(keys(&[]), Keys::Ring { assertions: false, .. }));
        let vouching = ("GATEWAY_SEND_ASSERTIONS", "true");
        assert!(matches!(keys(&[vouching]), Keys::Ring { assertions: true, .. }));
        assert_eq!(
            from(&[vouching, ("JWT_SECRET", SECRET)]).unwrap_err(),
            JwtConfigError::Missing { name: "JWT_ASSERTION_SECRET" }.into()
        );
        let secrets = |assertion| [vouching, ("JWT_SECRET", SECRET), ("JWT_ASSERTION_SECRET", assertion)];
        assert!(from(&secrets(SECRET)).is_err(), "one secret for both");
        assert!(matches!(keys(&secrets(OTHER)), Keys::Secret(_, Some(_))));
    }

    #[test]
    fn revocations_are_followed_unless_somebody_says_that_there_are_none() {
        let revocations = |vars: &[_]| matches!(from(vars), Ok(Trust::Settings(Settings { revocations: true, .. })));
        assert!(revocations(&[]));
        assert!(!revocations(&[("JWT_WITHOUT_REVOCATIONS", "true")]));
        assert!(from(&[("JWT_WITHOUT_REVOCATIONS", "yes")]).is_err());
    }
}
