//! The HTTP gateway, the only part of the system that speaks HTTP. It verifies tokens, forwards calls to services, and
//! maps error codes to HTTP statuses.
//!
//! | route | calls | response |
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
//! | `GET /readyz` | a round trip through nats-server, and a check that there is a key to verify tokens with | 200 or 503 |
//!
//! The gateway rejects an invalid token with 401 and forwards nothing to the services. It passes a valid token on in
//! the header `authorization`, and the service verifies it again. If `GATEWAY_SEND_ASSERTIONS` is set, the gateway's
//! signed assertion about the caller replaces the token. The gateway reads the data of a call from the request field
//! by field; it forwards nothing else of the request's body.
//!
//! The gateway propagates `traceparent` and `tracestate` of a request, so that the services continue its trace.
//!
//! The gateway sends the auth service a signed proof of the client's IP address (`nrpc-peer`, for subjects below
//! `auth.`). That is the address of the socket, or of the first hop before the trusted proxies.
//!
//! A cookie identifies a device that has logged in before (`__Host-device`; `HttpOnly`, `Secure`, `SameSite=Strict`).
//! Its value is a token of the auth service, which no response body contains. The gateway forwards it in the header
//! `nrpc-device`. Failed log-ins of others at the same account do not throttle a known device.
//!
//! Every error is `{code, message}`, with `details` if the service sent some. If the details contain a `retryAfterMs`,
//! the header `retry-after` repeats it in seconds.
//!
//! - `config`: settings
//! - `connections`: the limits of connections, their number and their timeouts
//! - `head`: checks of a request's head
//! - `peer`: the client's IP address; `forwarded`: addresses that proxies report
//! - `cors`: the origins whose pages may call
//! - `routes`: the routes, and the subject that each of them calls
//! - [`permissions`]: the permissions of the gateway's user on nats-server; `subjects`: the subjects that routes call
//! - `trust`: the keys that verify tokens, and those that sign the gateway's assertions and client IP proofs
//! - `call`: the call to a service, with or without a caller
//! - `body`: the request's JSON
//! - `device`: the cookie that identifies a device at the next log-in
//! - `failure`: errors as HTTP responses
//! - `surround`: the middleware around every route
//! - `signal`: SIGTERM and Ctrl-C

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

/// Maximum time that a graceful shutdown waits for requests in flight.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// A gateway that is connected and bound to its address; it serves once it runs.
#[must_use = "it serves nothing until `serve_with_shutdown`"]
pub struct Gateway {
    connection: Connection,
    listener: TcpListener,
    address: SocketAddr,
    router: Router,
    limits: ConnectionLimits,
}

impl Gateway {
    /// Connects to NATS and binds the address.
    ///
    /// # Errors
    /// [`GatewayError::Connect`] if there is no connection, [`GatewayError::Address`] if the gateway cannot bind the
    /// address, [`GatewayError::Keys`] if there is neither a secret nor a key ring, or the gateway cannot publish its
    /// own key.
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

    /// Returns the listen address; if port 0 was requested, with the port that was chosen.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `signal` is ready; then accepts no more requests and finishes those in flight, for at most 10 s.
    ///
    /// # Errors
    /// [`GatewayError::Ended`] if the connection to NATS is closed for good.
    pub async fn serve_with_shutdown(self, signal: impl Future<Output = ()> + Send) -> Result<(), GatewayError> {
        let Self { connection, listener, address, router, limits } = self;
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            // A dropped sender and a sent value both mean shutdown.
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

/// The reason why the gateway does not start, or does not continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// A setting of the gateway cannot be used.
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
    /// The gateway cannot listen on the address.
    #[error("cannot listen on {address}: {source}")]
    #[non_exhaustive]
    Address {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The connection to nats-server is closed for good.
    #[error("the connection to nats-server ended for good; start the gateway again")]
    Ended,
}
