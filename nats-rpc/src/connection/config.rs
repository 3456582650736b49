use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use super::watch::Watch;

/// How long a dead connection may look alive: three pings without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Messages that one subscription holds before the server's next ones are dropped.
const SUBSCRIPTION_CAPACITY: usize = 4_096;
/// The longest pause between two reconnects to a server; jitter comes on top.
const MAX_RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// Where nats-server is and how to log in there.
///
/// Defaults: `nats://127.0.0.1:4222`, no credentials, 30 s of patience at start, a ping each 5 s,
/// 4,096 messages a subscription.
///
/// ```
/// use nats_rpc::NatsConfig;
/// use std::time::Duration;
///
/// let config = NatsConfig::new("nats://10.0.0.1:4222,nats://10.0.0.2:4222")
///     .credentials_file("/etc/users.creds")
///     .connect_timeout(Duration::from_secs(5));
/// ```
#[derive(Clone)]
#[must_use]
pub struct NatsConfig {
    urls: String,
    login: Option<Login>,
    root_certificate: Option<PathBuf>,
    client_certificate: Option<(PathBuf, PathBuf)>,
    name: Option<String>,
    inbox_prefix: Option<String>,
    pub(super) connect_timeout: Duration,
    ping_interval: Duration,
    subscription_capacity: usize,
}

#[derive(Clone)]
enum Login {
    User { name: String, password: String },
    Token(String),
    Nkey { seed: String },
    CredentialsFile(PathBuf),
}

impl NatsConfig {
    /// Connects to one of `urls`, separated by commas.
    ///
    /// Credentials in a URL, `nats://user:password@host`, are used and never printed.
    pub fn new(urls: impl Into<String>) -> Self {
        Self {
            urls: urls.into(),
            login: None,
            root_certificate: None,
            client_certificate: None,
            name: None,
            inbox_prefix: None,
            connect_timeout: Duration::from_secs(30),
            ping_interval: PING_INTERVAL,
            subscription_capacity: SUBSCRIPTION_CAPACITY,
        }
    }

    /// Reads `NATS_URL` (default `nats://127.0.0.1:4222`), one of `NATS_CREDS` (a file), `NATS_NKEY_SEED`,
    /// `NATS_TOKEN`, `NATS_USER` with `NATS_PASSWORD`; `NATS_CA`, `NATS_CERT` with `NATS_KEY` (PEM files);
    /// `NATS_INBOX_PREFIX`; `NATS_CONNECT_TIMEOUT_MS` (default 30000).
    ///
    /// # Errors
    /// - [`NatsConfigError::Variable`]: a variable's value cannot be used.
    /// - [`NatsConfigError::Incomplete`]: one of a pair is set without the other, or two logins are.
    pub fn from_env() -> Result<Self, NatsConfigError> {
        Self::from_vars(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, NatsConfigError> {
        let mut config = Self::new(var("NATS_URL").unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()));
        let user = pair(&var, "NATS_USER", "NATS_PASSWORD")?.map(|(name, password)| Login::User { name, password });
        let logins = [
            user,
            var("NATS_TOKEN").map(Login::Token),
            var("NATS_NKEY_SEED").map(|seed| Login::Nkey { seed }),
            var("NATS_CREDS").map(|path| Login::CredentialsFile(path.into())),
        ];
        let mut logins = logins.into_iter().flatten();
        config.login = logins.next();
        if logins.next().is_some() {
            let why = "set one of NATS_USER, NATS_TOKEN, NATS_NKEY_SEED and NATS_CREDS".to_owned();
            return Err(NatsConfigError::Incomplete(why));
        }
        config.root_certificate = var("NATS_CA").map(Into::into);
        config.client_certificate =
            pair(&var, "NATS_CERT", "NATS_KEY")?.map(|(certificate, key)| (certificate.into(), key.into()));
        config.inbox_prefix = var("NATS_INBOX_PREFIX");
        if let Some(text) = var("NATS_CONNECT_TIMEOUT_MS") {
            let millis = text.parse().map_err(|_| NatsConfigError::Variable {
                name: "NATS_CONNECT_TIMEOUT_MS",
                wanted: "a number of milliseconds",
            })?;
            config.connect_timeout = Duration::from_millis(millis);
        }
        Ok(config)
    }

    /// Logs in with a user's name and password.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some(Login::User { name: name.into(), password: password.into() });
        self
    }

    /// Logs in with a token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.login = Some(Login::Token(token.into()));
        self
    }

    /// Logs in with an nkey, given by its seed.
    pub fn nkey(mut self, seed: impl Into<String>) -> Self {
        self.login = Some(Login::Nkey { seed: seed.into() });
        self
    }

    /// Logs in with a credentials file: a user's JWT and nkey.
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.login = Some(Login::CredentialsFile(path.into()));
        self
    }

    /// Trusts servers certified by the PEM file at `path`, and insists on TLS.
    pub fn root_certificate(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificate = Some(path.into());
        self
    }

    /// Shows the server a certificate, both files PEM, and insists on TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// The name that the server's monitoring shows. Default: the service's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Receives answers below `prefix` in place of `_INBOX`, so that permissions can keep inboxes apart.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(prefix.into());
        self
    }

    /// How long a start waits for nats-server. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often the server is asked whether it is there; three misses end the connection. Default: 5 s.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// How many messages a subscription holds. Default: 4,096. Beyond it NATS drops the newest.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages;
        self
    }

    /// The same with `name`, unless one was chosen.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name.get_or_insert_with(|| name.to_owned());
        self
    }

    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsConfigError> {
        let urls = self.urls.split(',').map(str::trim).filter(|url| !url.is_empty());
        let addresses: Result<Vec<_>, _> = urls
            .map(|url| ServerAddr::from_str(url).map_err(|source| NatsConfigError::Url { source: source.into() }))
            .collect();
        match addresses {
            Ok(addresses) if addresses.is_empty() => {
                Err(NatsConfigError::Incomplete("no server is named: set NATS_URL".to_owned()))
            }
            addresses => addresses,
        }
    }

    /// The servers without their credentials.
    pub(super) fn servers(&self) -> String {
        let without_login = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            _ => url.to_owned(),
        };
        self.urls.split(',').map(str::trim).map(without_login).collect::<Vec<_>>().join(",")
    }

    pub(super) fn options(&self, watch: Arc<Watch>) -> Result<ConnectOptions, NatsConfigError> {
        let mut options = ConnectOptions::new()
            .ping_interval(self.ping_interval)
            .subscription_capacity(self.subscription_capacity)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                watch.see(event);
                std::future::ready(())
            });
        options = match &self.login {
            None => options,
            Some(Login::User { name, password }) => options.user_and_password(name.clone(), password.clone()),
            Some(Login::Token(token)) => options.token(token.clone()),
            Some(Login::Nkey { seed }) => options.nkey(seed.clone()),
            Some(Login::CredentialsFile(path)) => {
                let unreadable =
                    |source: std::io::Error| NatsConfigError::Credentials { path: path.clone(), source: source.into() };
                let text = std::fs::read_to_string(path).map_err(unreadable)?;
                options.credentials(&text).map_err(unreadable)?
            }
        };
        if let Some(path) = &self.root_certificate {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        Ok(options)
    }
}

impl fmt::Debug for NatsConfig {
    /// Leaves out every credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers())
            .field("login", &self.login.as_ref().map(|_| "[redacted]"))
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// A setting that cannot be used; no value is repeated, as it may be a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NatsConfigError {
    /// A variable's value cannot be used.
    #[error("{name} must be {wanted}")]
    #[non_exhaustive]
    Variable {
        /// The variable.
        name: &'static str,
        /// What its value should be.
        wanted: &'static str,
    },
    /// Settings that do not make sense together; the text says which and how to mend them.
    #[error("{0}")]
    Incomplete(String),
    /// A server's URL cannot be parsed.
    #[error("NATS_URL holds a server that is no URL such as nats://127.0.0.1:4222")]
    #[non_exhaustive]
    Url {
        /// What the parser said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The credentials file cannot be used.
    #[error("the credentials file {} cannot be used: {source}", path.display())]
    #[non_exhaustive]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

fn pair(
    var: &impl Fn(&str) -> Option<String>,
    first: &str,
    second: &str,
) -> Result<Option<(String, String)>, NatsConfigError> {
    match (var(first), var(second)) {
        (Some(a), Some(b)) => Ok(Some((a, b))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(NatsConfigError::Incomplete(format!("{first} is set: set {second} too"))),
        (None, Some(_)) => Err(NatsConfigError::Incomplete(format!("{second} is set: set {first} too"))),
    }
}

/// Doubles from 1 ms to the cap; the jitter keeps a fleet from knocking in step.
fn reconnect_delay(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let exponent = u32::try_from(attempt).unwrap_or(u32::MAX).min(20);
    let delay = Duration::from_millis(1 << exponent).min(MAX_RECONNECT_DELAY);
    delay + delay.mul_f64(jitter())
}

/// A number from 0 to 1 that differs from call to call; nothing rests on its quality.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    (RandomState::new().hash_one(0_u8) % 1_000) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<NatsConfig, NatsConfigError> {
        NatsConfig::from_vars(|name| {
            vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn half_a_login_and_two_logins_are_refused() {
        assert!(from(&[]).is_ok());
        assert!(from(&[("NATS_USER", "u")]).is_err());
        assert!(from(&[("NATS_USER", "u"), ("NATS_PASSWORD", "p"), ("NATS_TOKEN", "t")]).is_err());
        assert!(from(&[("NATS_CERT", "c")]).is_err());
        assert!(from(&[("NATS_CONNECT_TIMEOUT_MS", "soon")]).is_err());
    }

    #[test]
    fn credentials_are_never_printed() {
        let config = NatsConfig::new("nats://joe:hunter2@a:1, tls://b:2").user("joe", "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.servers(), "nats://a:1,tls://b:2");
        let broken = NatsConfig::new("nats://joe:hunter2@a:port");
        let error = broken.addresses().unwrap_err();
        assert!(!format!("{error}").contains("hunter2"));
    }

    #[test]
    fn reconnects_slow_down_to_the_cap() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        for attempt in [2, 5, 10, 1_000, usize::MAX] {
            assert!(reconnect_delay(attempt) <= MAX_RECONNECT_DELAY * 2);
        }
    }
}
