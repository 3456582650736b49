use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectErrorKind, ServerAddr, rustls};
use tokio::time::Instant;

use super::relay::Relay;
use super::watch::Watch;
use super::{NatsConfig, NatsConfigError};

/// The retry interval of a startup that waits for nats-server.
const RETRY_EVERY: Duration = Duration::from_millis(250);
/// The interval of log messages while startup waits.
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// A connected async-nats client, and its relay, if any.
pub(super) struct Opened {
    pub(super) nats: async_nats::Client,
    pub(super) relay: Option<Relay>,
}

/// Connects through a new filter.
///
/// # Errors
/// If the filter cannot be set up, or no server accepts the connection immediately.
pub(super) async fn connect_filtered(config: &NatsConfig, watch: &Arc<Watch>) -> Result<Opened, ConnectError> {
    let failed = |source| ConnectError::Filter { source };
    let relay = Relay::open(config, watch).await.map_err(failed)?;
    let options = config.relayed_options(watch.clone(), relay.secret())?;
    let nats = options.connect(relay.url()).await.map_err(|error| failed(io::Error::other(error)))?;
    Ok(Opened { nats, relay: Some(relay) })
}

/// Returns a connected async-nats client.
///
/// # Errors
/// As [`Connection::open`](super::Connection::open).
pub(super) async fn connect(config: &NatsConfig, watch: &Arc<Watch>) -> Result<async_nats::Client, ConnectError> {
    let addresses = config.addresses()?;
    let give_up = Instant::now() + config.connect_timeout;
    let mut next_report = Instant::now();
    loop {
        let options = config.options(watch.clone())?;
        let error = match options.connect(addresses.as_slice()).await {
            Ok(nats) => return Ok(nats),
            Err(error) => error,
        };
        match error.kind() {
            // Boxed, as this case is rare and holds a second connecting future.
            kind if refuses(kind) => match Box::pin(connect_to_any(config, watch, &addresses)).await? {
                Tried::Connected(nats) => return Ok(nats),
                Tried::AllRefuse => return Err(ConnectError::Refused { servers: config.servers(), source: error }),
                Tried::SomeUnreachable => {}
            },
            ConnectErrorKind::ServerParse => {
                return Err(NatsConfigError::Url { source: error.into() }.into());
            }
            kind if kind == ConnectErrorKind::Tls || is_of_tls(&error) => {
                return Err(ConnectError::Tls { servers: config.servers(), why: innermost(&error), source: error });
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

/// The outcome of trying each server by itself.
enum Tried {
    Connected(async_nats::Client),
    AllRefuse,
    SomeUnreachable,
}

/// Tries each server separately: async-nats gives up at the first server that rejects the credentials, though another
/// one may accept them.
async fn connect_to_any(
    config: &NatsConfig,
    watch: &Arc<Watch>,
    addresses: &[ServerAddr],
) -> Result<Tried, NatsConfigError> {
    if let [_] = addresses {
        return Ok(Tried::AllRefuse);
    }
    let mut all_refuse = true;
    for address in addresses {
        match config.options(watch.clone())?.connect(address).await {
            Ok(nats) => match nats.set_server_pool(addresses).await {
                Ok(()) => return Ok(Tried::Connected(nats)),
                // The client has already ended.
                Err(_) => all_refuse = false,
            },
            Err(error) => all_refuse &= refuses(error.kind()),
        }
    }
    Ok(if all_refuse { Tried::AllRefuse } else { Tried::SomeUnreachable })
}

fn refuses(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication)
}

/// The reason that there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A URL or a credential cannot be used.
    #[error(transparent)]
    Config(#[from] NatsConfigError),
    /// No server in the list accepts the credentials.
    #[error(
        "nats-server at {servers} refused the credentials: check NATS_USER and NATS_PASSWORD, NATS_TOKEN, \
         NATS_NKEY_SEED or NATS_CREDS"
    )]
    #[non_exhaustive]
    Refused {
        /// The servers tried, without credentials.
        servers: String,
        /// The error of async-nats.
        source: async_nats::ConnectError,
    },
    /// Client and server do not agree on TLS, or on a certificate.
    #[error(
        "no TLS connection to nats-server at {servers}: {why}; check NATS_CA, NATS_CERT and NATS_KEY, and the \
         server's certificate"
    )]
    #[non_exhaustive]
    Tls {
        /// The servers tried, without credentials.
        servers: String,
        /// The problem.
        why: String,
        /// The error of async-nats.
        source: async_nats::ConnectError,
    },
    /// No server was reachable within the configured time.
    #[error("no nats-server answered at {servers} within {waited:?}: start one, or set NATS_URL ({source})")]
    #[non_exhaustive]
    Unreachable {
        /// The servers tried, without credentials.
        servers: String,
        /// The time that the client tried to connect.
        waited: Duration,
        /// The last error of async-nats.
        source: async_nats::ConnectError,
    },
    /// The connection through a filter failed; see [`HeaderFilter`](super::HeaderFilter).
    #[error("no connection to nats-server through the header filter: {source}")]
    #[non_exhaustive]
    Filter {
        /// The cause.
        source: io::Error,
    },
}

/// Returns `true` if TLS failed rather than the network; a retry cannot fix that.
fn is_of_tls(error: &async_nats::ConnectError) -> bool {
    chain(error).any(|error| error.is::<rustls::Error>())
}

/// Returns the root cause as text.
fn innermost(error: &async_nats::ConnectError) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        // `io::Error::source` skips the error that the `io::Error` was created from.
        let made_of = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        made_of.map(|error| error as &(dyn Error + 'static)).or_else(|| error.source())
    })
}
