//! The keys that verify tokens, and those that sign the gateway's client IP proofs and assertions.

use nats_rpc::Connection;
use nats_rpc_jwt::{
    AssertionSigner, ClientIpSigner, DEFAULT_AUDIENCE, JwtConfigError, KeyPurpose, KeysError, SigningKeyConfig,
    SigningKeys, VerifierConfig,
};
use nats_rpc_jwt::{JwtGuard, SecretKey};

use crate::config::ConfigError;

/// Variable of the secret that the gateway signs with if access tokens have a secret too.
const ASSERTION_SECRET: &str = "JWT_ASSERTION_SECRET";

/// The trust that the settings describe, before there is a connection.
#[derive(Debug)]
pub(crate) enum Trust {
    /// Tokens that this guard verifies; the gateway passes them on.
    Guard(JwtGuard),
    /// Tokens and signers as the settings say.
    Settings(Settings),
}

#[derive(Debug)]
pub(crate) struct Settings {
    tokens: Box<VerifierConfig>,
    vouching: Vouching,
}

#[derive(Debug)]
enum Vouching {
    /// Signers with a secret, if there is one, as access tokens have one.
    Secret(Signers),
    /// Keys of the gateway's own, for `audience`; with `assertions`, they also sign assertions about callers.
    Keys { audience: String, assertions: bool },
}

/// The opened trust, with its keys.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) guard: JwtGuard,
    pub(crate) signers: Signers,
}

/// The signers of the gateway.
#[derive(Debug, Default)]
pub(crate) struct Signers {
    /// Signs assertions about callers; without it, the gateway passes tokens on.
    pub(crate) callers: Option<AssertionSigner>,
    /// Signs client IP proofs; without it, the gateway sends none.
    pub(crate) peers: Option<ClientIpSigner>,
}

impl Trust {
    pub(crate) fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        // HTTP callers have tokens; the gateway makes assertions and does not accept them.
        let of_tokens = |name: &str| vars(name).filter(|_| name != "JWT_ACCEPT_ASSERTIONS");
        let tokens = Box::new(VerifierConfig::from_vars(of_tokens)?);
        Ok(Self::Settings(Settings { tokens, vouching: Vouching::from_vars(vars)? }))
    }

    /// Watches the ring and the revocations, and publishes the gateway's own key, as the settings say.
    pub(crate) async fn open(self, connection: &Connection) -> Result<Trusted, KeysError> {
        let Settings { tokens, vouching } = match self {
            Self::Guard(guard) => return Ok(Trusted { guard, signers: Signers::default() }),
            Self::Settings(settings) => settings,
        };
        let guard = JwtGuard::new(tokens.load(connection).await?)?;
        Ok(Trusted { guard, signers: vouching.open(connection).await? })
    }
}

impl Vouching {
    fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let assertions = match vars("GATEWAY_SEND_ASSERTIONS").as_deref() {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(_) => {
                return Err(ConfigError::Variable { name: "GATEWAY_SEND_ASSERTIONS", wanted: "true or false" });
            }
        };
        let audience = vars("JWT_AUDIENCE").unwrap_or_else(|| DEFAULT_AUDIENCE.to_owned());
        let secret = SecretKey::optional_from_vars(ASSERTION_SECRET, &vars)?;
        let Some(access) = SecretKey::optional_from_vars("JWT_SECRET", &vars)? else {
            if secret.is_some() {
                let wanted = "left out without JWT_SECRET: with a key ring, the gateway vouches with keys of its own";
                return Err(ConfigError::Variable { name: ASSERTION_SECRET, wanted });
            }
            return Ok(Self::Keys { audience, assertions });
        };
        let Some(secret) = secret else {
            let missing = JwtConfigError::Missing { name: ASSERTION_SECRET };
            return if assertions { Err(missing.into()) } else { Ok(Self::Secret(Signers::default())) };
        };
        access.distinct_from(&secret)?;
        let callers = assertions.then(|| AssertionSigner::hs256(&secret).audience(audience.as_str()));
        Ok(Self::Secret(Signers { callers, peers: Some(ClientIpSigner::hs256(&secret).audience(audience)) }))
    }

    async fn open(self, connection: &Connection) -> Result<Signers, KeysError> {
        let (audience, assertions) = match self {
            Self::Secret(signers) => return Ok(signers),
            Self::Keys { audience, assertions } => (audience, assertions),
        };
        let own = |purpose| SigningKeys::open(connection, SigningKeyConfig::new(purpose));
        let peers =
            async { Ok::<_, KeysError>(own(KeyPurpose::Peers).await?.client_ip_signer().audience(audience.as_str())) };
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
        Ok(Signers { callers, peers: Some(peers) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn from(vars: &[(&str, &str)]) -> Result<Trust, ConfigError> {
        Trust::from_vars(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn vouching(vars: &[(&str, &str)]) -> Vouching {
        match from(vars) {
            Ok(Trust::Settings(settings)) => settings.vouching,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_secret_and_the_ring_are_two_modes_that_never_mix() {
        let none = |signers: &Signers| signers.callers.is_none() && signers.peers.is_none();
        assert!(matches!(vouching(&[("JWT_SECRET", SECRET)]), Vouching::Secret(signers) if none(&signers)));
        assert!(matches!(vouching(&[]), Vouching::Keys { assertions: false, .. }));
        let sends = ("GATEWAY_SEND_ASSERTIONS", "true");
        assert!(matches!(vouching(&[sends]), Vouching::Keys { assertions: true, .. }));
        assert_eq!(
            from(&[sends, ("JWT_SECRET", SECRET)]).unwrap_err(),
            JwtConfigError::Missing { name: "JWT_ASSERTION_SECRET" }.into()
        );
        let secrets = |assertion| [sends, ("JWT_SECRET", SECRET), ("JWT_ASSERTION_SECRET", assertion)];
        assert!(from(&secrets(SECRET)).is_err(), "one secret for both");
        let both = vouching(&secrets(OTHER));
        assert!(matches!(both, Vouching::Secret(Signers { callers: Some(_), peers: Some(_) })));
        let silent = vouching(&secrets(OTHER)[1..]);
        assert!(matches!(silent, Vouching::Secret(Signers { callers: None, peers: Some(_) })));
        let unused = from(&[("JWT_ASSERTION_SECRET", OTHER)]).unwrap_err().to_string();
        assert!(unused.starts_with("JWT_ASSERTION_SECRET must be left out without JWT_SECRET"), "{unused}");
    }

    #[test]
    fn a_setting_of_tokens_that_cannot_be_used_is_refused_and_one_for_services_alone_is_none_of_the_gateways() {
        for name in ["JWT_CHECK_REVOCATIONS", "JWT_REVOCATION_MAX_AGE_MS", "GATEWAY_SEND_ASSERTIONS"] {
            let refused = from(&[(name, "yes")]).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{name} must be ")), "{refused}");
        }
        // Accepting assertions would need a secret of its own.
        assert!(from(&[("JWT_ACCEPT_ASSERTIONS", "true"), ("JWT_SECRET", SECRET)]).is_ok());
    }
}
