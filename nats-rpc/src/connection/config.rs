use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

mod delay;
mod env;
mod error;
mod kv_api;
mod login;
mod servers;

use self::delay::reconnect_delay;
pub use self::error::NatsConfigError;
pub use self::kv_api::KvApiPrefixes;
use self::login::Login;
use self::servers::Servers;
use super::watch::Watch;
use crate::deadline::LONGEST;
use crate::reply_subject::ReplySubjects;

/// The default ping interval. A dead connection is detected after three pings without a reply.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// The number of messages that one subscription buffers; beyond it, the server's next messages are dropped.
const SUBSCRIPTION_CAPACITY: usize = 4_096;

/// The addresses of nats-server and the credentials for it.
///
/// Defaults: `nats://127.0.0.1:4222`, no credentials, a connect timeout of 30 s at startup, a ping every 5 s, 4,096
/// messages per subscription.
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
    pub(super) root_certificate: Option<PathBuf>,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) tls: Tls,
    pub(super) name: Option<String>,
    inbox_prefix: Option<String>,
    reply_prefixes: Vec<String>,
    pub(super) auth_js_api_prefix: Option<String>,
    pub(super) kv_api_prefixes: KvApiPrefixes,
    pub(super) connect_timeout: Duration,
    ping_interval: Duration,
    pub(super) subscription_capacity: usize,
    pub(super) header_filter: HeaderFilter,
}

/// Determines when a connection uses a filter that replaces messages with unreadable headers.
///
/// One such message ends an async-nats connection and loses the messages in flight on it. The filter is a relay in the
/// process, between async-nats and nats-server: a listener on 127.0.0.1 that admits only this process. A service
/// replies to a replaced request with 400; a call whose reply was replaced fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderFilter {
    /// After the first message that ended a connection, or after three breaks within 10 s, until the process ends. It
    /// has no cost before that.
    #[default]
    Auto,
    /// From startup on. Even the first bad message loses no other messages; each message passes through one more local
    /// socket.
    Always,
    /// Never, for processes that may not listen on a port: each bad message then ends a connection.
    Never,
}

/// Determines when a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// If the server, the URL or a certificate requires it.
    Auto,
    /// Always.
    Required,
    /// Always, with the TLS handshake before the server's first message.
    First,
}

impl NatsConfig {
    /// Creates a configuration that connects to one of `urls`, separated by commas.
    ///
    /// Credentials in a URL, `nats://user:password@host` or `nats://token@host`, are used and never printed. They are
    /// percent-decoded: `p%40ss` is `p@ss`. If several URLs hold credentials, these must be identical; URLs without
    /// credentials may be among them. Credentials both in a URL and in another setting are an error.
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
            auth_js_api_prefix: None,
            kv_api_prefixes: KvApiPrefixes::default(),
            connect_timeout: Duration::from_secs(30),
            ping_interval: PING_INTERVAL,
            subscription_capacity: SUBSCRIPTION_CAPACITY,
            header_filter: HeaderFilter::default(),
        }
    }

    /// Logs in with a user name and password.
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

    /// Trusts servers whose certificate is signed by the PEM file at `path`, and requires TLS.
    pub fn root_certificate(mut self, path: impl Into<PathBuf>) -> Self {
        self.root_certificate = Some(path.into());
        self
    }

    /// Presents a client certificate to the server, both files PEM, and requires TLS.
    pub fn client_certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// Requires TLS.
    pub fn require_tls(mut self) -> Self {
        self.tls = Tls::Required;
        self
    }

    /// Requires TLS, and starts the handshake before the server's first message.
    ///
    /// The server needs the setting `handshake_first` for it.
    pub fn tls_first(mut self) -> Self {
        self.tls = Tls::First;
        self
    }

    /// Sets the name that the server's monitoring shows. Default: the service's name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Receives replies below `prefix`, so that permissions can separate inboxes.
    ///
    /// Default: `_INBOX_` and the [name](Self::name), so `_INBOX_users` for a service called `users`. It is plain
    /// `_INBOX` without a name, or if the name has characters other than letters, digits, `-` and `_`.
    pub fn inbox_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.inbox_prefix = Some(prefix.into());
        self
    }

    /// Allows reply subjects below `prefix` as well, for peers whose inboxes are neither `_INBOX.…` nor
    /// `_INBOX_<word>.…`; see [`ReplySubjects`].
    ///
    /// Services add the prefixes of their callers; clients add those of the services whose streams they read.
    pub fn reply_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.reply_prefixes.push(prefix.into());
        self
    }

    /// Reads the buckets with keys and revocations (`auth_rev`, `auth_jwks`, `gw_jwks`) through the JetStream API at
    /// `prefix`, and watches them without a consumer on the server.
    ///
    /// It is for a server where auth has its own account: `prefix` is the subject at which this account imports auth's
    /// JetStream API, such as `AUTHJS`; for auth itself it is `$JS.API`. Default: none. The buckets are then in the
    /// account of this connection, and each process watches them with one consumer per bucket.
    pub fn auth_js_api_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.auth_js_api_prefix = Some(prefix.into());
        self
    }

    /// Opens the KV bucket `bucket` through the JetStream API at `prefix`: the API of another account, imported by
    /// this one.
    ///
    /// With `APPJS`, a record of the bucket `users` is read at `APPJS.STREAM.MSG.GET.KV_users`. Keys are written at
    /// `$KV.users.<key>`, which this account imports under the same name. Default: every bucket is in the account of
    /// the connection.
    pub fn kv_api_prefix(mut self, bucket: impl Into<String>, prefix: impl Into<String>) -> Self {
        self.kv_api_prefixes.insert(bucket.into(), prefix.into());
        self
    }

    /// Sets how long startup waits for nats-server. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout.min(LONGEST);
        self
    }

    /// Sets the interval of pings to the server; three missed replies end the connection. Default: 5 s, at least 100
    /// ms.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval.clamp(Duration::from_millis(100), LONGEST);
        self
    }

    /// Sets how many messages a subscription buffers. Default: 4,096, at least 1. Beyond that, NATS drops the newest.
    pub fn subscription_capacity(mut self, messages: usize) -> Self {
        self.subscription_capacity = messages.max(1);
        self
    }

    /// Sets when messages with unreadable headers are filtered out. Default: [`HeaderFilter::Auto`].
    pub fn header_filter(mut self, filter: HeaderFilter) -> Self {
        self.header_filter = filter;
        self
    }

    /// Sets `name` unless a name is set already.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name.get_or_insert_with(|| name.to_owned());
        self
    }

    /// Returns the reply subjects that this connection publishes to.
    pub(crate) fn reply_subjects(&self) -> Result<ReplySubjects, NatsConfigError> {
        let add = |replies: ReplySubjects, prefix: &String| replies.with_prefix(prefix);
        self.reply_prefixes.iter().try_fold(ReplySubjects::default(), add).map_err(|_| NatsConfigError::Variable {
            name: "NATS_REPLY_PREFIXES",
            wanted: "literal subjects, separated by commas, without wildcards and without a `$` at the beginning",
        })
    }

    /// Returns the prefixes of reply subjects that were added.
    pub(crate) fn reply_prefixes(&self) -> &[String] {
        &self.reply_prefixes
    }

    /// Returns the subject below which replies arrive.
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

    /// Returns the prefix of auth's JetStream API if auth has another account.
    fn auth_api(&self) -> Result<Option<&str>, NatsConfigError> {
        match self.auth_js_api_prefix.as_deref() {
            Some(prefix) if !is_api_prefix(prefix) => {
                let wanted = "a subject without wildcards, such as AUTHJS or $JS.API";
                Err(NatsConfigError::Variable { name: "AUTH_JS_API_PREFIX", wanted })
            }
            prefix => Ok(prefix),
        }
    }

    /// Returns the servers without their credentials.
    ///
    /// # Errors
    /// As [`login`](Self::login).
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsConfigError> {
        Ok(Servers::parse(&self.urls)?.addresses)
    }

    /// Returns the credentials that were set, or those of the URLs.
    ///
    /// # Errors
    /// If a URL cannot be read, and if both are set.
    fn login(&self) -> Result<Option<Login>, NatsConfigError> {
        match (&self.login, Servers::parse(&self.urls)?.login) {
            (Some(_), Some(_)) => {
                let why = "NATS_URL holds credentials and others are set too: remove one of them";
                Err(NatsConfigError::Incomplete(why.to_owned()))
            }
            (Some(login), None) => Ok(Some(login.clone())),
            (None, login) => Ok(login),
        }
    }

    /// Returns the servers as text, without their credentials.
    pub(super) fn servers(&self) -> String {
        match self.addresses() {
            Ok(addresses) => addresses.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>().join(","),
            Err(_) => "[unreadable]".to_owned(),
        }
    }

    /// Returns the options of a connection to nats-server itself.
    pub(super) fn options(&self, watch: Arc<Watch>) -> Result<ConnectOptions, NatsConfigError> {
        let mut options = self.common_options(watch)?;
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
        Ok(match &self.name {
            Some(name) => options.name(name),
            None => options,
        })
    }

    /// Returns the options of a connection to a relay. The relay encrypts, discovers other servers, and recognizes its
    /// clients by `secret`.
    pub(super) fn relayed_options(&self, watch: Arc<Watch>, secret: &str) -> Result<ConnectOptions, NatsConfigError> {
        Ok(self.common_options(watch)?.name(secret).ignore_discovered_servers())
    }

    fn common_options(&self, watch: Arc<Watch>) -> Result<ConnectOptions, NatsConfigError> {
        self.auth_api()?;
        if !self.kv_api_prefixes.are_good() {
            let wanted = "subjects without wildcards as prefixes";
            return Err(NatsConfigError::Variable { name: "NATS_KV_API_PREFIXES", wanted });
        }
        let options = ConnectOptions::new()
            .ping_interval(self.ping_interval)
            .subscription_capacity(self.subscription_capacity)
            .reconnect_delay_callback(reconnect_delay)
            .custom_inbox_prefix(self.inbox()?)
            .event_callback(move |event| {
                watch.see(event);
                std::future::ready(())
            });
        match self.login()? {
            Some(login) => login.apply(options),
            None => Ok(options),
        }
    }

    /// Returns `true` if the configuration requires TLS.
    pub(super) fn encrypts(&self) -> bool {
        self.tls != Tls::Auto || self.root_certificate.is_some() || self.client_certificate.is_some()
    }
}

/// Returns `true` if `text` can begin the subjects of a JetStream API: a subject without wildcards.
fn is_api_prefix(text: &str) -> bool {
    let is_token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
    };
    text.split('.').all(is_token)
}

impl fmt::Debug for NatsConfig {
    /// Omits all credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NatsConfig")
            .field("servers", &self.servers())
            .field("login", &self.login.as_ref().map(|_| "[redacted]"))
            .field("tls", &self.tls)
            .field("root_certificate", &self.root_certificate)
            .field("inbox_prefix", &self.inbox_prefix)
            .field("reply_prefixes", &self.reply_prefixes)
            .field("auth_js_api_prefix", &self.auth_js_api_prefix)
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
        assert!(config.options(Arc::default()).is_err(), "two logins");
        let broken = NatsConfig::new("nats://joe:hunter2@a:port");
        let error = broken.addresses().unwrap_err();
        assert!(!format!("{error} {broken:?}").contains("hunter2"));
        let seed = NatsConfig::new("nats://a").nkey("SUhunter2").options(Arc::default()).unwrap_err();
        assert!(!format!("{seed} {seed:?}").contains("hunter2") && seed.to_string().contains("NATS_NKEY_SEED"));
    }

    #[test]
    fn auth_js_api_prefix_is_a_literal_subject() {
        let config = |prefix: &str| NatsConfig::new("nats://a").auth_js_api_prefix(prefix);
        for good in ["AUTHJS", "$JS.API", "$JS.hub.API"] {
            assert_eq!(config(good).auth_api().unwrap(), Some(good));
        }
        for bad in ["", "A.", ".A", "A B", "A.*", "A.>"] {
            assert!(config(bad).options(Arc::default()).is_err(), "{bad:?}");
        }
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
