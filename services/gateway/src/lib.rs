//! The only HTTP of the system: verifies tokens, forwards calls, maps codes to statuses.
//!
//! | route | calls | answers |
//! |---|---|---|
//! | `POST /api/auth/signup` | `auth.signup` | 201 |
//! | `POST /api/auth/login`, `/refresh`, `/logout` | `auth.login`, … | 200 |
//! | `POST /api/auth/logout-all` | `auth.logout_all` | 200; needs a token |
//! | `GET /api/auth/sessions`, `DELETE /api/auth/sessions/{id}` | `auth.sessions`, `auth.sessions.end` | 200; needs a token |
//! | `POST /api/auth/password/change` | `auth.password.change` | 200; needs a token |
//! | `POST /api/auth/password/reset/request`, `/confirm` | `auth.password.reset.request`, … | 200 |
//! | `POST /api/users/profile` | `get_user_profile` | 200; needs a token |
//! | `GET /api/users/me` | `get_user_profile` of the caller | 200; needs a token |
//! | `GET /healthz` | | 200 while the process serves |
//! | `GET /readyz` | an echo through nats-server, and a key to verify tokens with | 200 or 503 |
//!
//! A token that is not good is answered 401 here, and no service hears of the request. A good one is passed
//! on in the header `authorization`, and the service verifies it again; or, if the gateway is told to send
//! assertions, its own word for the caller takes the token's place. What goes into a call is read from the
//! request field by field; nothing else of its body travels on.
//!
//! `traceparent` and `tracestate` of a request travel on, so that its trace goes on behind the gateway.
//!
//! Where a caller is, the auth service learns from a proof that the gateway signs (`nrpc-peer`, for subjects below
//! `auth.`): the address of the socket, or of the first hop before the proxies that are named.
//!
//! A device that has logged in before is known by a cookie (`__Host-device`; `HttpOnly`, `Secure`, `SameSite=Strict`).
//! Its value is a token of the auth service, which no body shows; the gateway sends it on in the header `nrpc-device`.
//! Failures of others at the same account do not hold up a known device.
//!
//! Every error is `{code, message}`, with `details` if the service gave some. If they hold a `retryAfterMs`, the
//! header `retry-after` says it in seconds.
//!
//! - `config`: settings
//! - `connections`: how many there are, and how long one may be silent
//! - `head`: what of a request's head is refused
//! - `peer`: where a request comes from; `forwarded`: what proxies say of it
//! - `cors`: which pages of other origins may call
//! - `routes`: what is served, and which subject each route calls
//! - [`permissions`] is what the gateway's user must be allowed on nats-server; `subjects` are what routes call
//! - `trust`: whose tokens are believed, and whether the gateway vouches for their bearers
//! - `call`: the call to a service, and whose it is
//! - `body`: the request's JSON
//! - `device`: the cookie by which a device is known at the next log-in
//! - `failure`: errors as answers
//! - `surround`: what each request goes through, whatever its route
//! - `signal`: SIGTERM and ctrl-c

mod body;
mod call;
mod config;
mod connections;
mod cors;
mod device;
mod failure;
mod forwarded;
mod head;
mod peer;
mod routes;
mod signal;
mod subjects;
mod surround;
mod trust;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use nats_rpc::{Client, ConnectError, Connection, ConnectionState, NatsConfig, NatsConfigError};
use nats_rpc_jwt::KeysError;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use self::call::Calls;
pub use self::config::{Config, ConfigError};
use self::connections::ConnectionLimits;
pub use self::signal::stop_signal;
pub use self::subjects::permissions;

/// How long a stop waits for requests that are being answered.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A gateway that is connected and has its address; it serves once it runs.
#[must_use = "it serves nothing until `serve_with_shutdown`"]
pub struct Gateway {
    connection: Connection,
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
}

impl Gateway {
    /// Connects to NATS and takes the address.
    ///
    /// # Errors
    /// [`GatewayError::Connect`] if there is no connection, [`GatewayError::Address`] if the address cannot
    /// be taken, [`GatewayError::Keys`] if there is neither a secret nor a key ring, or the gateway's own key
    /// cannot be published.
    pub async fn bind(config: Config, nats: NatsConfig) -> Result<Self, GatewayError> {
        let taken = TcpListener::bind(config.address).await;
        let cannot = |source| GatewayError::Address { address: config.address, source };
        let listener = taken.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let connection = Connection::open(&nats.name(subjects::NAME)).await?;
        let Config { trust, timeout, body_limit, proxies, peers, origins, connections: limits, .. } = config;
        let calls =
            Calls::new(Client::new(connection.clone()), trust.open(&connection).await?, proxies, peers, timeout);
        let router = routes::router(calls, timeout, body_limit, origins);
        Ok(Self { connection, listener, address, router, limits })
    }

    /// Where it listens; the port is the one chosen if port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `signal` is ready; then takes no more requests and finishes those that it has, for at
    /// most 10 s.
    ///
    /// # Errors
    /// [`GatewayError::Ended`] if the connection to NATS ended for good.
    pub async fn serve_with_shutdown(self, signal: impl Future<Output = ()> + Send) -> Result<(), GatewayError> {
        let Self { connection, listener, address, router, limits } = self;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // Dropped or sent: both mean that it is time.
            let _ = stopped.await;
        };
        let mut serving = tokio::spawn(connections::serve(listener, router, limits, stopped));
        let outcome = tokio::select! {
            () = signal => Ok(()),
            () = connection.wait_for(|state| *state == ConnectionState::Closed) => Err(GatewayError::Ended),
            served = &mut serving => {
                return served.map_err(|panic| GatewayError::Address { address, source: panic.into() });
            }
        };
        drop(stop);
        if tokio::time::timeout(DRAIN_LIMIT, &mut serving).await.is_err() {
            tracing::warn!(limit = ?DRAIN_LIMIT, "requests that still run are cut off");
            serving.abort();
        }
        outcome
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why the gateway does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting of the connection cannot be used.
    #[error(transparent)]
    NatsConfig(#[from] NatsConfigError),
    /// There is no connection to NATS.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There are no keys to verify tokens with, or to sign assertions with.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    #[non_exhaustive]
    Address {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection ended for good.
    #[error("the connection to nats-server ended for good; start the gateway again")]
    Ended,
}
