//! Whose tokens are believed, and whether the gateway vouches for their bearers.

use nats_rpc::auth::{KeyPurpose, KeysError, SigningKeyConfig, SigningKeys};
use nats_rpc::jwt::{AssertionSigner, DEFAULT_AUDIENCE, KeyRing};
use nats_rpc::{Connection, JwtConfig, JwtGuard, SecretKey};

use crate::config::ConfigError;

/// Decided by the settings, before there is a connection.
#[derive(Debug)]
pub(crate) enum Trust {
    /// What this guard takes; tokens are passed on.
    Guard(JwtGuard),
    /// What this guard takes; the gateway vouches with a secret.
    Vouching(JwtGuard, AssertionSigner),
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
        let (issuer, audience) = (vars("JWT_ISSUER"), vars("JWT_AUDIENCE"));
        if vars("JWT_SECRET").is_none() {
            return Ok(Self::Ring { issuer, audience, assertions });
        }
        let guard = JwtGuard::new(JwtConfig::from_vars(&vars)?)?;
        if !assertions {
            return Ok(Self::Guard(guard));
        }
        let secret = SecretKey::from_vars("JWT_ASSERTION_SECRET", &vars)?;
        SecretKey::from_vars("JWT_SECRET", &vars)?.distinct_from(&secret)?;
        Ok(Self::Vouching(guard, AssertionSigner::hs256(&secret).audience(or_default(audience))))
    }

    /// Follows the ring and publishes the gateway's own key, where the settings ask for them.
    pub(crate) async fn open(self, connection: &Connection) -> Result<Trusted, KeysError> {
        match self {
            Self::Guard(guard) => Ok(Trusted { guard, signer: None }),
            Self::Vouching(guard, signer) => Ok(Trusted { guard, signer: Some(signer) }),
            Self::Ring { issuer, audience, assertions } => {
                let mut config = JwtConfig::ring(KeyRing::follow(connection, KeyPurpose::AccessTokens).await?);
                if let Some(issuer) = issuer {
                    config = config.issuer(issuer);
                }
                if let Some(audience) = &audience {
                    config = config.audience(audience);
                }
                let guard = JwtGuard::new(config)?;
                if !assertions {
                    return Ok(Trusted { guard, signer: None });
                }
                let keys = SigningKeys::open(connection, SigningKeyConfig::new(KeyPurpose::Assertions)).await?;
                Ok(Trusted { guard, signer: Some(keys.assertion_signer().audience(or_default(audience))) })
            }
        }
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

    #[test]
    fn a_secret_and_the_ring_are_two_modes_that_never_mix() {
        assert!(matches!(from(&[("JWT_SECRET", SECRET)]), Ok(Trust::Guard(_))));
        assert!(matches!(from(&[]), Ok(Trust::Ring { assertions: false, .. })));
        let vouching = ("GATEWAY_SEND_ASSERTIONS", "true");
        assert!(matches!(from(&[vouching]), Ok(Trust::Ring { assertions: true, .. })));
        assert_eq!(
            from(&[vouching, ("JWT_SECRET", SECRET)]).unwrap_err(),
            JwtConfigError::Missing { name: "JWT_ASSERTION_SECRET" }.into()
        );
        let secrets = |assertion| from(&[vouching, ("JWT_SECRET", SECRET), ("JWT_ASSERTION_SECRET", assertion)]);
        assert!(secrets(SECRET).is_err(), "one secret for both");
        assert!(matches!(secrets(OTHER), Ok(Trust::Vouching(..))));
    }
}
