use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

use super::dispatch::{self, Endpoint};
use super::shutdown::{self, Order};
use super::stats::Counters;
use super::{Assembled, Config, Info, RouteStats, Service, StartError};
use crate::connection::{Connection, ConnectionState, EchoError, NatsConfig, Violation};

/// How long the server may take to confirm the subscriptions.
const LIVE_LIMIT: Duration = Duration::from_secs(10);
/// How long the final echo may take: the answers have been published before it.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// How long a forbidden subscription takes, at most, from the connection's task to its event.
const VIOLATION_GRACE: Duration = Duration::from_millis(5);

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Every subscription is live.
    Ready,
    /// It takes no more requests and finishes those that it has.
    Stopping,
    /// Nothing is left.
    Stopped,
}

/// A service that serves.
///
/// Dropping it ends everything at once and loses what is in flight; [`stop`](Self::stop) loses nothing.
#[must_use = "dropping it ends the service at once"]
pub struct Running {
    info: Info,
    connection: Connection,
    endpoints: Vec<Arc<Endpoint>>,
    loops: JoinSet<()>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    violations: broadcast::Receiver<Violation>,
    status: watch::Sender<Status>,
    drain: Duration,
}

pub(super) async fn start(service: Service, nats: NatsConfig) -> Result<Running, StartError> {
    // What the handlers say of themselves is checked first: it needs no server.
    let table = service.table()?;
    let connection = Connection::open(&nats.named(&service.info.name)).await?;
    let config = Config::new(connection.clone(), &service.info.name);
    let assembled = service.assemble(table, &config).await?;
    Running::serve(assembled, connection).await
}

impl Running {
    async fn serve(assembled: Assembled, connection: Connection) -> Result<Self, StartError> {
        let Assembled { info, routes, wire, limits } = assembled;
        let mut running = Self {
            violations: connection.violations(),
            connection,
            endpoints: Vec::new(),
            loops: JoinSet::new(),
            orders: Vec::new(),
            status: watch::Sender::new(Status::Ready),
            drain: limits.drain,
            info,
        };
        for route in routes {
            let own = route.entry.route;
            let endpoint = Endpoint {
                wire,
                concurrency: own.concurrency.unwrap_or(limits.concurrency).max(1),
                backlog: limits.backlog,
                timeout: own.timeout_ms.map_or(limits.timeout, Duration::from_millis),
                counters: Counters::default(),
                live: AtomicBool::new(true),
                route,
            };
            running.subscribe(endpoint).await?;
        }
        running.confirm().await?;
        let Info { name, version, .. } = &running.info;
        tracing::info!(service = name, version, handlers = running.endpoints.len(), "ready");
        Ok(running)
    }

    async fn subscribe(&mut self, endpoint: Endpoint) -> Result<(), StartError> {
        let place = endpoint.route.entry.route.location().to_string();
        let subscribed = endpoint.subscribe(&self.connection.live()).await;
        let intake = subscribed.map_err(|error| StartError::Refused(vec![format!("{place}: {error}")]))?;
        let endpoint = Arc::new(endpoint);
        let (orders, taken) = mpsc::unbounded_channel();
        self.loops.spawn(dispatch::serve(endpoint.clone(), intake, self.connection.clone(), taken));
        self.endpoints.push(endpoint);
        self.orders.push(orders);
        Ok(())
    }

    /// Waits until the server has seen every subscription, and asks how it will end one.
    async fn confirm(&mut self) -> Result<(), StartError> {
        let ends_at_once =
            shutdown::server_ends_at_once(&self.connection, LIVE_LIMIT).await.map_err(StartError::NotLive)?;
        if !ends_at_once {
            tracing::warn!("a stop may lose requests: this nats-server does not end a subscription at once");
        }
        let mut forbidden = Vec::new();
        while let Ok(Ok(violation)) = tokio::time::timeout(VIOLATION_GRACE, self.violations.recv()).await {
            forbidden.extend(self.forbidden_subscription(&violation));
        }
        if forbidden.is_empty() { Ok(()) } else { Err(StartError::Forbidden(forbidden)) }
    }

    fn forbidden_subscription(&self, violation: &Violation) -> Option<String> {
        let ours = self.endpoints.iter().any(|endpoint| endpoint.route.entry.pattern.subject() == violation.subject);
        (!violation.publish && ours).then(|| violation.subject.clone())
    }

    /// The service's connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where the service is in its life, now and later.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Whether requests reach the service: it is not stopping, every subscription stands, and an echo came
    /// back within `limit`.
    ///
    /// # Errors
    /// [`EchoError`] if none did, or at once if the service is stopping or a subscription is being renewed.
    pub async fn check(&self, limit: Duration) -> Result<Duration, EchoError> {
        let subscribed = self.endpoints.iter().all(|endpoint| endpoint.live.load(Ordering::Relaxed));
        if *self.status.borrow() != Status::Ready || !subscribed {
            return Err(EchoError { waited: Duration::ZERO });
        }
        self.connection.echo(limit).await
    }

    /// What each handler has done since the start.
    pub fn stats(&self) -> Vec<RouteStats> {
        let counted = self.endpoints.iter();
        counted.map(|endpoint| endpoint.counters.read(endpoint.route.entry.route.handler)).collect()
    }

    /// Waits until the service can serve no more by itself, and says why.
    pub async fn ended(&mut self) -> StartError {
        loop {
            tokio::select! {
                _ = self.loops.join_next(), if !self.loops.is_empty() => return StartError::Ended,
                () = self.connection.wait_for(|state| *state == ConnectionState::Closed) => return StartError::Ended,
                violation = self.violations.recv() => {
                    // A reader that is late skips what it missed; the server repeats it at the next reconnect.
                    let Ok(violation) = violation else { continue };
                    if let Some(subject) = self.forbidden_subscription(&violation) {
                        return StartError::Forbidden(vec![subject]);
                    }
                }
            }
        }
    }

    /// Stops without losing a request: no more are taken, those that are here are answered.
    ///
    /// Takes as long as the longest handler, at most [`Limits::drain`](super::Limits::drain); what runs
    /// then is answered 503.
    pub async fn stop(mut self) {
        self.status.send_replace(Status::Stopping);
        tracing::info!(service = self.info.name, "stopping");
        shutdown::end_intake(&self.connection, &self.orders).await;
        let finished = tokio::time::timeout(self.drain, join_all(&mut self.loops)).await;
        if finished.is_err() {
            tracing::warn!(limit = ?self.drain, "handlers still run at the drain limit: their callers are answered 503");
            for orders in &self.orders {
                // A loop that has just ended needs no order.
                let _ = orders.send(Order::Abandon);
            }
            let _ = tokio::time::timeout(FAREWELL_LIMIT, join_all(&mut self.loops)).await;
        }
        // The answers were published before this echo, so its return proves that the server has them.
        if let Err(error) = self.connection.echo(FAREWELL_LIMIT).await {
            tracing::warn!(%error, "the last answers may be lost");
        }
        self.status.send_replace(Status::Stopped);
        tracing::info!(service = self.info.name, "stopped");
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("service", &self.info.name)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

async fn join_all(loops: &mut JoinSet<()>) {
    while loops.join_next().await.is_some() {}
}
