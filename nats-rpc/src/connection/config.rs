use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

mod delay;
mod env;
mod error;
mod login;

use self::delay::reconnect_delay;
pub use self::error::NatsConfigError;
use self::login::Login;
use super::watch::Watch;
use crate::deadline::LONGEST;
use crate::reply_subject::ReplySubjects;

/// How long a dead connection may look alive: three pings without an answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Messages that one subscription holds before the server's next ones are dropped.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

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
    tls: Tls,
    name: Option<String>,
    inbox_prefix: Option<String>,
    reply_prefixes: Vec<String>,
    pub(super) connect_timeout: Duration,
    ping_interval: Duration,
    pub(super) subscription_capacity: usize,
}

/// When a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tls {
    /// If the server, the URL or a certificate asks for it.
    Auto,
    /// Always.
    Required,
    /// Always, and before the server has said a word.
    First,
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
            tls: Tls::Auto,
            name: None,
            inbox_prefix: None,
            reply_prefixes: Vec::new(),
            connect_timeout: Duration::from_secs(30),
            ping_interval: PING_INTERVAL,
            subscription_capacity: SUBSCRIPTION_CAPACITY,
        }
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

    /// Never connects without TLS.
    pub fn require_tls(mut self) -> Self {
        self.tls = Tls::Required;
        self
    }

    /// Never connects without TLS, and begins it before the server has said a word.
    ///
    /// The server needs `handshake_first` for it.
    pub fn tls_first(mut self) -> Self {
        self.tls = Tls::First;
        self
    }

    /// The name that the server's monitoring shows. Default: the service's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Receives answers below `prefix`, so that permissions can keep inboxes apart.
    ///
    /// Default: `_INBOX_` and the [name](Self::name), so `_INBOX_users` for a service called `users`; plain
    /// `_INBOX` without a name, or if the name has other characters than letters, digits, `-` and `_`.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(prefix.into());
        self
    }

    /// Publishes to reply subjects below `prefix` as well, for peers whose inboxes are neither `_INBOX.…` nor
    /// `_INBOX_<word>.…`; see [`ReplySubjects`].
    ///
    /// Services add the prefixes of their callers, and clients those of the services whose streams they read.
    pub fn reply_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.reply_prefixes.push(prefix.into());
        self
    }

    /// How long a start waits for nats-server. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(LONGEST);
        self
    }

    /// How often the server is asked whether it is there; three misses end the connection. Default: 5 s, at
    /// least 100 ms.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.clamp(Duration::from_millis(100), LONGEST);
        self
    }

    /// How many messages a subscription holds. Default: 4,096, at least 1. Beyond it NATS drops the newest.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages.max(1);
        self
    }

    /// The same with `name`, unless one was chosen.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name.get_or_insert_with(|| name.to_owned());
        self
    }

    /// The reply subjects that this connection publishes to.
    pub(crate) fn reply_subjects(&self) -> Result<ReplySubjects, NatsConfigError> {
        let add = |replies: ReplySubjects, prefix: &String| replies.with_prefix(prefix);
        self.reply_prefixes.iter().try_fold(ReplySubjects::default(), add).map_err(|_| NatsConfigError::Variable {
            name: "NATS_REPLY_PREFIXES",
            wanted: "literal subjects, separated by commas, without wildcards and without a `$` at the beginning",
        })
    }

    /// The prefixes of reply subjects that were added.
    pub(crate) fn reply_prefixes(&self) -> &[String] {
        &self.reply_prefixes
    }

    /// The subject below which answers arrive.
    pub(super) fn inbox(&self) -> Result<String, NatsConfigError> {
        let is_word = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        match (&self.inbox_prefix, &self.name) {
            (Some(prefix), _) if prefix.split('.').all(is_word) => Ok(prefix.clone()),
            (Some(_), _) => {
                let wanted = "words of letters, digits, - and _, separated by dots";
                Err(NatsConfigError::Variable { name: "NATS_INBOX_PREFIX", wanted })
            }
            (None, Some(name)) if is_word(name) => Ok(format!("_INBOX_{name}")),
            (None, _) => Ok("_INBOX".to_owned()),
        }
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
        if let Some(login) = &self.login {
            options = login.apply(options)?;
        }
        if let Some(path) = &self.root_certificate {
            options = options.add_root_certificates(path.clone()).require_tls(true);
        }
        if let Some((certificate, key)) = &self.client_certificate {
            options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
        }
        options = match self.tls {
            Tls::Auto => options,
            Tls::Required => options.require_tls(true),
            Tls::First => options.tls_first(),
        };
        if let Some(name) = &self.name {
            options = options.name(name);
        }
        Ok(options.custom_inbox_prefix(self.inbox()?))
    }
}

impl fmt::Debug for NatsConfig {
    /// Leaves out every credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers())
            .field("login", &self.login.as_ref().map(|_| "[redacted]"))
            .field("tls", &self.tls)
            .field("root_certificate", &self.root_certificate)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("reply_prefixes", &self.reply_prefixes)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_printed() {
        let config = NatsConfig::new("nats://joe:hunter2@a:1, tls://b:2").user("joe", "hunter2");
        assert!(!format!("{config:?}").contains("hunter2"));
        assert_eq!(config.servers(), "nats://a:1,tls://b:2");
        let broken = NatsConfig::new("nats://joe:hunter2@a:port");
        let error = broken.addresses().unwrap_err();
        assert!(!format!("{error}").contains("hunter2"));
        let seed = NatsConfig::new("nats://a").nkey("SUhunter2").options(Arc::default()).unwrap_err();
        assert!(!format!("{seed} {seed:?}").contains("hunter2") && seed.to_string().contains("NATS_NKEY_SEED"));
    }

    #[test]
    fn an_inbox_is_named_for_who_reads_it() {
        let config = NatsConfig::new("nats://a");
        assert_eq!(config.inbox().unwrap(), "_INBOX");
        assert_eq!(config.clone().named("users").inbox().unwrap(), "_INBOX_users");
        assert_eq!(config.clone().name("the users").inbox().unwrap(), "_INBOX");
        assert_eq!(config.clone().named("users").inbox_prefix("_INBOX.mine").inbox().unwrap(), "_INBOX.mine");
        for prefix in ["a..b", "*", "a.>", "a b", "."] {
            assert!(config.clone().inbox_prefix(prefix).inbox().is_err(), "{prefix:?}");
        }
    }
}
