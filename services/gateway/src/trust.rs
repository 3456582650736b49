//! Whose tokens are believed, and what the gateway vouches for: where callers are, and who.

use nats_rpc::auth::{KeyPurpose, KeysError, SigningKeyConfig, SigningKeys};
use nats_rpc::jwt::{AssertionSigner, DEFAULT_AUDIENCE, KeyRing, PeerSigner, Revocations};
use nats_rpc::{Connection, JwtConfig, JwtGuard, SecretKey};

use crate::config::ConfigError;

/// What the gateway vouches with where access tokens have a secret as well.
const ASSERTION_SECRET: &str = "JWT_ASSERTION_SECRET";

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
    /// A static secret; the gateway vouches with another, if there is one.
    Secret { config: Box<JwtConfig>, signers: Signers },
    /// Tokens of the key ring; the gateway vouches with keys of its own, with `assertions` also for who calls.
    Ring { issuer: Option<String>, audience: Option<String>, assertions: bool },
}

/// The same with its keys.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) guard: JwtGuard,
    pub(crate) signers: Signers,
}

/// What the gateway vouches with.
#[derive(Debug, Default)]
pub(crate) struct Signers {
    /// For who calls; without it, tokens are passed on.
    pub(crate) callers: Option<AssertionSigner>,
    /// For where callers are; without it, nobody is told.
    pub(crate) peers: Option<PeerSigner>,
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
            Self::Guard(guard) => return Ok(Trusted { guard, signers: Signers::default() }),
            Self::Settings(settings) => settings,
        };
        let (mut config, signers) = keys.open(connection).await?;
        if revocations {
            config = config.revocations(Revocations::follow(connection).await?);
        }
        Ok(Trusted { guard: JwtGuard::new(config)?, signers })
    }
}

impl Keys {
    fn from_vars(assertions: bool, vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (issuer, audience) = (vars("JWT_ISSUER"), vars("JWT_AUDIENCE"));
        if vars("JWT_SECRET").is_none() {
            if vars(ASSERTION_SECRET).is_some() {
                let wanted = "left out without JWT_SECRET: with a key ring, the gateway vouches with keys of its own";
                return Err(ConfigError::Variable { name: ASSERTION_SECRET, wanted });
            }
            return Ok(Self::Ring { issuer, audience, assertions });
        }
        let config = Box::new(JwtConfig::from_vars(&vars)?);
        if vars(ASSERTION_SECRET).is_none() && !assertions {
            return Ok(Self::Secret { config, signers: Signers::default() });
        }
        let secret = SecretKey::from_vars(ASSERTION_SECRET, &vars)?;
        SecretKey::from_vars("JWT_SECRET", &vars)?.distinct_from(&secret)?;
        let audience = or_default(audience);
        let callers = assertions.then(|| AssertionSigner::hs256(&secret).audience(audience.as_str()));
        let signers = Signers { callers, peers: Some(PeerSigner::hs256(&secret).audience(audience)) };
        Ok(Self::Secret { config, signers })
    }

    async fn open(self, connection: &Connection) -> Result<(JwtConfig, Signers), KeysError> {
        let (issuer, audience, assertions) = match self {
            Self::Secret { config, signers } => return Ok((*config, signers)),
            Self::Ring { issuer, audience, assertions } => (issuer, audience, assertions),
        };
        let mut config = JwtConfig::ring(KeyRing::follow(connection, KeyPurpose::AccessTokens).await?);
        if let Some(issuer) = issuer {
            config = config.issuer(issuer);
        }
        if let Some(audience) = &audience {
            config = config.audience(audience);
        }
        let audience = or_default(audience);
        let own = |purpose| SigningKeys::open(connection, SigningKeyConfig::new(purpose));
        let peers =
            async { Ok::<_, KeysError>(own(KeyPurpose::Peers).await?.peer_signer().audience(audience.as_str())) };
        let callers = async {
            match assertions {
                true => {
                    let keys = own(KeyPurpose::Assertions).await?;
                    Ok(Some(keys.assertion_signer().audience(audience.as_str())))
                }
                false => Ok(None),
            }
        };
        let (peers, callers) = tokio::try_join!(peers, callers)?;
        Ok((config, Signers { callers, peers: Some(peers) }))
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
        let none = |signers: &Signers| signers.callers.is_none() && signers.peers.is_none();
        assert!(matches!(keys(&[("JWT_SECRET", SECRET)]), Keys::Secret { signers, .. } if none(&signers)));
        assert!(matches!(keys(&[]), Keys::Ring { assertions: false, .. }));
        let vouching = ("GATEWAY_SEND_ASSERTIONS", "true");
        assert!(matches!(keys(&[vouching]), Keys::Ring { assertions: true, .. }));
        assert_eq!(
            from(&[vouching, ("JWT_SECRET", SECRET)]).unwrap_err(),
            JwtConfigError::Missing { name: "JWT_ASSERTION_SECRET" }.into()
        );
        let secrets = |assertion| [vouching, ("JWT_SECRET", SECRET), ("JWT_ASSERTION_SECRET", assertion)];
        assert!(from(&secrets(SECRET)).is_err(), "one secret for both");
        let both = keys(&secrets(OTHER));
        assert!(matches!(both, Keys::Secret { signers: Signers { callers: Some(_), peers: Some(_) }, .. }));
        let silent = keys(&secrets(OTHER)[1..]);
        assert!(matches!(silent, Keys::Secret { signers: Signers { callers: None, peers: Some(_) }, .. }));
        let unused = from(&[("JWT_ASSERTION_SECRET", OTHER)]).unwrap_err().to_string();
        assert!(unused.starts_with("JWT_ASSERTION_SECRET must be left out without JWT_SECRET"), "{unused}");
    }

    #[test]
    fn revocations_are_followed_unless_somebody_says_that_there_are_none() {
        let revocations = |vars: &[_]| matches!(from(vars), Ok(Trust::Settings(Settings { revocations: true, .. })));
        assert!(revocations(&[]));
        assert!(!revocations(&[("JWT_WITHOUT_REVOCATIONS", "true")]));
        assert!(from(&[("JWT_WITHOUT_REVOCATIONS", "yes")]).is_err());
    }
}
