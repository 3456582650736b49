//! The gateway's settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use nats_rpc::{RenamedVariable, renamed_variable};
use nats_rpc_jwt::{ClientIpSigner, JwtConfigError, JwtGuard};

use crate::connections::ConnectionLimits;
use crate::cors::Origins;
use crate::forwarded::ProxyHeader;
use crate::peer::Proxies;
use crate::trust::Trust;

/// Renamed variables: old name, new name.
const RENAMED: [(&str, &str); 3] = [
    ("GATEWAY_SILENCE_MS", "GATEWAY_READ_TIMEOUT_MS"),
    ("GATEWAY_IDLE_MS", "GATEWAY_KEEP_ALIVE_MS"),
    ("GATEWAY_CONNECTIONS", "GATEWAY_MAX_CONNECTIONS"),
];

/// The gateway's configuration: its address, the tokens and proxies that it trusts, and its limits.
///
/// ```
/// use gateway::Config;
/// use nats_rpc_jwt::{JwtConfig, JwtGuard, SecretKey};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let config = Config::new(JwtGuard::new(JwtConfig::hs256(secret))?).address(([127, 0, 0, 1], 0));
/// # Ok::<_, nats_rpc_jwt::JwtConfigError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct Config {
    pub(crate) address: SocketAddr,
    pub(crate) trust: Trust,
    pub(crate) timeout: Duration,
    pub(crate) body_limit: usize,
    pub(crate) connections: ConnectionLimits,
    pub(crate) proxies: Proxies,
    pub(crate) peers: Option<Arc<ClientIpSigner>>,
    pub(crate) origins: Origins,
}

impl Config {
    /// Returns a configuration that listens on 127.0.0.1:3000 and trusts the tokens that `guard` verifies.
    pub fn new(guard: JwtGuard) -> Self {
        Self::trusting(Trust::Guard(guard))
    }

    fn trusting(trust: Trust) -> Self {
        let address = (Ipv4Addr::LOCALHOST, 3000).into();
        Self {
            address,
            trust,
            timeout: Duration::from_secs(5),
            body_limit: 64 * 1024,
            connections: ConnectionLimits {
                silence: Duration::from_secs(10),
                idle: Duration::from_secs(75),
                open: 4_096,
            },
            proxies: Proxies::default(),
            peers: None,
            origins: Origins::default(),
        }
    }

    /// Reads the settings through `vars`.
    ///
    /// | variable | meaning | default |
    /// |---|---|---|
    /// | `JWT_SECRET` | secret that signs access tokens, at least 32 bytes; if not set, the keys come from the key ring | none |
    /// | `JWT_ISSUER`, `JWT_AUDIENCE` | `iss` and `aud` of access tokens | `nats-rpc-auth`, `nats-rpc` |
    /// | `JWT_CHECK_REVOCATIONS` | `false` disables revocation checks: a revoked token stays valid until it expires | `true` |
    /// | `JWT_REVOCATION_MAX_AGE_MS` | maximum age of the revocation list, 1,000 to 3,600,000; when it is older, requests with tokens get 503 | 30000 |
    /// | `GATEWAY_SEND_ASSERTIONS` | `true`: the gateway sends a signed assertion about the caller to services instead of the token | `false` |
    /// | `GATEWAY_ADDRESS` | listen address | `127.0.0.1:3000` |
    /// | `GATEWAY_TIMEOUT_MS` | timeout of a request, 1 to 600,000 | 5000 |
    /// | `GATEWAY_BODY_LIMIT` | maximum size of a request's body in bytes, 1 to 1,000,000 | 65536 |
    /// | `GATEWAY_READ_TIMEOUT_MS` | timeout for the headers of a request, and for a client that does not read its response, 1 to 600,000 | 10000 |
    /// | `GATEWAY_KEEP_ALIVE_MS` | idle timeout of a connection before a request, 1 to 3,600,000; must exceed the keep-alive time of a proxy in front | 75000 |
    /// | `GATEWAY_MAX_CONNECTIONS` | maximum number of open connections, 1 to 1,000,000; further ones wait | 4096 |
    /// | `GATEWAY_TRUSTED_PROXIES` | proxies that may report a caller's address: addresses and networks, separated by commas | none |
    /// | `GATEWAY_PROXY_HEADER` | header in which they report it, `x-forwarded-for` or `forwarded` (RFC 7239); the gateway never reads the other one | `x-forwarded-for` |
    /// | `GATEWAY_CORS_ORIGINS` | origins whose pages may call, separated by commas, such as `https://app.example.com` | none |
    /// | `JWT_ASSERTION_SECRET` | only with a `JWT_SECRET`: secret that signs client IP proofs for the auth service, and assertions; at least 32 bytes, different from `JWT_SECRET`. Without `JWT_SECRET`, the gateway signs with its own keys, published in `gw_jwks` | none |
    ///
    /// Each secret can be read from a file, which `JWT_SECRET_FILE` or `JWT_ASSERTION_SECRET_FILE` names.
    ///
    /// Services accept assertions if they run with `JWT_ACCEPT_ASSERTIONS=true`; see
    /// [`JwtConfig::load`](nats_rpc_jwt::JwtConfig::load). The gateway looks for a key ring when it
    /// [binds](crate::Gateway::bind).
    ///
    /// # Errors
    /// [`ConfigError`] with the name of the first setting that cannot be used.
    pub fn from_vars(vars: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let vars = |name: &str| vars(name).filter(|value| !value.is_empty());
        renamed_variable(vars, &RENAMED)?;
        let mut config = Self::trusting(Trust::from_vars(vars)?);
        if let Some(list) = vars("GATEWAY_TRUSTED_PROXIES") {
            let wanted = "addresses or networks with commas between them, such as 10.0.0.7, fd00::/8";
            let name = "GATEWAY_TRUSTED_PROXIES";
            config.proxies = Proxies::parse(&list).ok_or(ConfigError::Variable { name, wanted })?;
        }
        if let Some(header) = vars("GATEWAY_PROXY_HEADER") {
            let (name, wanted) = ("GATEWAY_PROXY_HEADER", "x-forwarded-for or forwarded");
            let header = ProxyHeader::parse(&header).ok_or(ConfigError::Variable { name, wanted })?;
            config.proxies = config.proxies.reading(header);
        }
        if let Some(list) = vars("GATEWAY_CORS_ORIGINS") {
            let wanted = "origins as browsers send them, with commas between them, such as https://app.example.com";
            let name = "GATEWAY_CORS_ORIGINS";
            config.origins = Origins::parse(&list).ok_or(ConfigError::Variable { name, wanted })?;
        }
        if let Some(address) = vars("GATEWAY_ADDRESS") {
            let wanted = "an address and a port, such as 127.0.0.1:3000";
            config.address = address.parse().map_err(|_| ConfigError::Variable { name: "GATEWAY_ADDRESS", wanted })?;
        }
        let millis = "a number of milliseconds from 1 to 600000";
        if let Some(timeout) = number(vars, "GATEWAY_TIMEOUT_MS", 1..=600_000, millis)? {
            config.timeout = Duration::from_millis(timeout);
        }
        if let Some(silence) = number(vars, "GATEWAY_READ_TIMEOUT_MS", 1..=600_000, millis)? {
            config.connections.silence = Duration::from_millis(silence);
        }
        let wanted = "a number of milliseconds from 1 to 3600000";
        if let Some(idle) = number(vars, "GATEWAY_KEEP_ALIVE_MS", 1..=3_600_000, wanted)? {
            config.connections.idle = Duration::from_millis(idle);
        }
        let wanted = "a number of connections from 1 to 1000000";
        if let Some(open) = number(vars, "GATEWAY_MAX_CONNECTIONS", 1..=1_000_000, wanted)? {
            config.connections.open = open;
        }
        let wanted = "a number of bytes from 1 to 1000000";
        if let Some(bytes) = number(vars, "GATEWAY_BODY_LIMIT", 1..=1_000_000, wanted)? {
            config.body_limit = bytes;
        }
        Ok(config)
    }

    /// Sets the listen address; port 0 selects a free port. Default: 127.0.0.1:3000.
    pub fn address(mut self, address: impl Into<SocketAddr>) -> Self {
        self.address = address.into();
        self
    }

    /// Sets the timeout of a request, from its first byte to its response. Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the timeout for the headers of a request, and for a client that does not read its response. Default: 10 s.
    pub fn silence(mut self, longest: Duration) -> Self {
        self.connections.silence = longest;
        self
    }

    /// Sets the idle timeout of a connection before a request. Default: 75 s.
    ///
    /// A proxy that keeps connections open must close them sooner; most do so by default after 60 s. Otherwise it
    /// loses requests on connections that the gateway closes at that moment.
    pub fn idle(mut self, longest: Duration) -> Self {
        self.connections.idle = longest;
        self
    }

    /// Sets the maximum number of open connections, at least one; further ones wait until one closes. Default: 4,096.
    ///
    /// The operating system must allow the process that many open files, and some more.
    pub fn connections(mut self, most: usize) -> Self {
        self.connections.open = most.max(1);
        self
    }

    /// Proves client IP addresses to the auth service with `signer`, which replaces the signer from the settings.
    /// Default: the gateway sends no proof, and the auth service counts log-in attempts by account alone.
    pub fn prove_peers(mut self, signer: ClientIpSigner) -> Self {
        self.peers = Some(Arc::new(signer));
        self
    }

    /// Sets the maximum size of a request's body. Default: 64 KiB.
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }
}

/// Returns the number that the variable is set to, if it is set.
fn number<T: FromStr + PartialOrd>(
    vars: impl Fn(&str) -> Option<String>,
    name: &'static str,
    allowed: RangeInclusive<T>,
    wanted: &'static str,
) -> Result<Option<T>, ConfigError> {
    let Some(value) = vars(name) else { return Ok(None) };
    let number = value.parse().ok().filter(|number| allowed.contains(number));
    number.map(Some).ok_or(ConfigError::Variable { name, wanted })
}

/// A setting that cannot be used; the error does not repeat its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The variable has a value that cannot be used.
    #[error("{name} must be {wanted}")]
    #[non_exhaustive]
    Variable {
        /// The variable.
        name: &'static str,
        /// The expected form of its value.
        wanted: &'static str,
    },
    /// A variable is set by its old name.
    #[error(transparent)]
    Renamed(#[from] RenamedVariable),
    /// The JWT settings cannot be used to verify tokens.
    #[error(transparent)]
    Jwt(#[from] JwtConfigError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: (&str, &str) = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");

    fn from(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_vars(|name| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn all_has_defaults_and_a_secret_is_long() {
        assert!(matches!(from(&[]).unwrap().trust, Trust::Settings(_)));
        assert!(from(&[("JWT_SECRET", "your-secret-key")]).is_err());
        let config = from(&[SECRET, ("GATEWAY_ADDRESS", "")]).unwrap();
        assert_eq!((config.address.port(), config.body_limit), (3000, 65_536));
        let ConnectionLimits { silence, idle, open } = config.connections;
        assert_eq!((silence.as_secs(), idle.as_secs(), open), (10, 75, 4_096));
        let config = from(&[SECRET, ("GATEWAY_READ_TIMEOUT_MS", "7"), ("GATEWAY_KEEP_ALIVE_MS", "8")]).unwrap();
        assert_eq!((config.connections.silence.as_millis(), config.connections.idle.as_millis()), (7, 8));
    }

    #[test]
    fn renamed_variable_is_rejected_with_its_new_name() {
        for (old, new) in RENAMED {
            let error = from(&[SECRET, (old, "7")]).unwrap_err();
            assert_eq!(error.to_string(), format!("{old} was renamed; set {new} instead"));
        }
        for (old, new) in [
            ("JWT_WITHOUT_REVOCATIONS", "JWT_CHECK_REVOCATIONS"),
            ("JWT_REVOCATIONS_STALE_MS", "JWT_REVOCATION_MAX_AGE_MS"),
        ] {
            let error = from(&[SECRET, (old, "true")]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{old} was renamed; set {new}")), "{error}");
        }
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named() {
        for (name, value) in [
            ("GATEWAY_ADDRESS", "localhost"),
            ("GATEWAY_TIMEOUT_MS", "0"),
            ("GATEWAY_TIMEOUT_MS", "5s"),
            ("GATEWAY_BODY_LIMIT", "-1"),
            ("GATEWAY_READ_TIMEOUT_MS", "0"),
            ("GATEWAY_KEEP_ALIVE_MS", "3600001"),
            ("GATEWAY_MAX_CONNECTIONS", "0"),
            ("GATEWAY_TRUSTED_PROXIES", "everybody"),
            ("GATEWAY_PROXY_HEADER", "x-real-ip"),
            ("GATEWAY_CORS_ORIGINS", "*"),
            ("JWT_ASSERTION_SECRET", "short"),
            ("GATEWAY_SEND_ASSERTIONS", "yes"),
        ] {
            let error = from(&[SECRET, (name, value)]).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }
}
