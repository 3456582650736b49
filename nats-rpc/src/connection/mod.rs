//! One connection to NATS: how it is opened, what becomes of it, and whether it really works.

mod config;
mod echo;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use tokio::time::Instant;

pub use self::config::{NatsConfig, NatsConfigError};
pub use self::echo::EchoError;
pub use self::watch::ConnectionState;
pub(crate) use self::watch::Violation;
use self::watch::Watch;

/// How often a start that waits for nats-server tries again.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// How often it says so.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A connection to NATS, shared by a service and its clients; cheap to clone.
///
/// Reconnects are async-nats' own, with a capped backoff. The state is known from its events; whether
/// messages really flow is known from an [`echo`](Self::echo).
#[derive(Clone)]
pub struct Connection {
    nats: async_nats::Client,
    watch: Arc<Watch>,
}

impl Connection {
    /// Connects, waiting for nats-server as long as `config` says.
    ///
    /// # Errors
    /// - [`ConnectError::Config`]: a URL or a credential cannot be used.
    /// - [`ConnectError::Refused`]: the server does not accept the credentials; not retried.
    /// - [`ConnectError::Unreachable`]: no server answered in the configured time.
    pub async fn open(config: &NatsConfig) -> Result<Self, ConnectError> {
        let addresses = config.addresses()?;
        let give_up = Instant::now() + config.connect_timeout;
        let mut next_report = Instant::now();
        loop {
            let watch = Arc::new(Watch::default());
            let options = config.options(watch.clone())?;
            let error = match options.connect(addresses.as_slice()).await {
                Ok(nats) => {
                    watch.connected();
                    return Ok(Self { nats, watch });
                }
                Err(error) => error,
            };
            match error.kind() {
                async_nats::ConnectErrorKind::AuthorizationViolation | async_nats::ConnectErrorKind::Authentication => {
                    return Err(ConnectError::Refused { servers: config.servers(), source: error });
                }
                async_nats::ConnectErrorKind::ServerParse => {
                    return Err(NatsConfigError::Url { source: error.into() }.into());
                }
                _ => {}
            }
            let now = Instant::now();
            if now + RETRY_EVERY >= give_up {
                let waited = config.connect_timeout;
                return Err(ConnectError::Unreachable { servers: config.servers(), waited, source: error });
            }
            if now >= next_report {
                let left = give_up - now;
                tracing::warn!(servers = %config.servers(), %error, "waiting for nats-server, for up to {left:.0?} more");
                next_report = now + REPORT_EVERY;
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// The connection of async-nats, for what this crate does not wrap.
    pub fn nats(&self) -> &async_nats::Client {
        &self.nats
    }

    /// JetStream on this connection.
    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.nats.clone())
    }

    /// What the events of the connection say now.
    pub fn state(&self) -> ConnectionState {
        self.watch.state()
    }

    /// Waits for the next state that `wanted` accepts; returns at once if the present one is it.
    pub async fn wait_for(&self, wanted: impl FnMut(&ConnectionState) -> bool) {
        self.watch.wait_for(wanted).await;
    }

    /// Whether the server at the other end is on this machine, as far as its address tells.
    pub fn is_loopback(&self) -> bool {
        let host = self.nats.server_info().client_ip;
        host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// What the server forbids from now on.
    pub(crate) fn violations(&self) -> tokio::sync::broadcast::Receiver<Violation> {
        self.watch.violations()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A URL or a credential cannot be used.
    #[error(transparent)]
    Config(#[from] NatsConfigError),
    /// The server does not accept the credentials.
    #[error(
        "nats-server at {servers} refused the credentials: check NATS_USER and NATS_PASSWORD, NATS_TOKEN, NATS_NKEY_SEED or NATS_CREDS"
    )]
    #[non_exhaustive]
    Refused {
        /// The servers tried, without credentials.
        servers: String,
        /// What async-nats said.
        source: async_nats::ConnectError,
    },
    /// No server answered in the configured time.
    #[error("no nats-server answered at {servers} within {waited:?}: start one, or set NATS_URL ({source})")]
    #[non_exhaustive]
    Unreachable {
        /// The servers tried, without credentials.
        servers: String,
        /// How long they were tried.
        waited: Duration,
        /// What async-nats said last.
        source: async_nats::ConnectError,
    },
}
