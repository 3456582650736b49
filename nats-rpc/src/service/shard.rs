//! A part of a running service: one connection with its loops, on one runtime.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::channel::mpsc;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, oneshot, watch};
use tokio::task::JoinSet;

use super::StartError;
use super::credit::Credits;
use super::dispatch::{self, Endpoint};
use super::shutdown::{self, Loops, Order};
use crate::connection::{Connection, RoundTripError, Violation};

/// The time limit for the server to confirm the subscriptions.
const LIVE_LIMIT: Duration = Duration::from_secs(10);
/// The time limit for the final echo: the replies have been published before it.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);
/// The maximum delay from the connection's task to the event of a forbidden subscription.
const VIOLATION_GRACE: Duration = Duration::from_millis(5);

pub(super) struct Shard {
    connection: Connection,
    credits: Arc<Credits>,
    endpoints: Vec<Arc<Endpoint>>,
    loops: JoinSet<()>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
    /// Is `true` if the startup probe showed that the server ends a subscription at once.
    ends_at_once: bool,
    /// Changes when the connection breaks; it was unbroken when the shard was created.
    breaks: watch::Receiver<u64>,
    violations: broadcast::Receiver<Violation>,
    runtime: Handle,
    /// Ends the shard's thread when it is dropped.
    _thread: Option<oneshot::Sender<()>>,
}

impl Shard {
    /// Creates a shard in the current runtime.
    pub(super) fn here(connection: &Connection, instance: &str) -> Self {
        Self::on(connection.clone(), instance, Handle::current(), None)
    }

    /// Creates a shard on a separate thread, with a connection like `connection`.
    ///
    /// # Errors
    /// If the thread cannot be started or its connection fails.
    pub(super) async fn on_thread(connection: &Connection, instance: &str, name: String) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let handle = runtime.handle().clone();
        let (thread, dropped) = oneshot::channel();
        let run = move || {
            // An error says that the sender was dropped, which is the awaited signal.
            let _ = runtime.block_on(dropped);
        };
        std::thread::Builder::new().name(name).spawn(run).map_err(StartError::Thread)?;
        let like = connection.clone();
        // Runs on the shard's runtime, as the connection's tasks run on the runtime that opens it.
        let opened = handle.spawn(async move { like.another().await }).await;
        let connection = opened.map_err(|error| StartError::Thread(std::io::Error::other(error)))??;
        Ok(Self::on(connection, instance, handle, Some(thread)))
    }

    fn on(connection: Connection, instance: &str, runtime: Handle, thread: Option<oneshot::Sender<()>>) -> Self {
        Self {
            violations: connection.violations(),
            breaks: connection.breaks(),
            credits: Arc::new(Credits::new(&connection, instance)),
            connection,
            endpoints: Vec::new(),
            loops: JoinSet::new(),
            orders: Vec::new(),
            ends_at_once: false,
            runtime,
            _thread: thread,
        }
    }

    pub(super) async fn subscribe(&mut self, endpoint: Endpoint) -> Result<Arc<Endpoint>, StartError> {
        let place = endpoint.route.entry.route.location().to_string();
        let subscribed = endpoint.subscribe(&self.connection.live()).await;
        let intake = subscribed.map_err(|error| StartError::Invalid(vec![format!("{place}: {error}")]))?;
        let endpoint = Arc::new(endpoint);
        let (orders, taken) = mpsc::unbounded();
        let serving = dispatch::serve(endpoint.clone(), intake, self.connection.clone(), taken);
        self.loops.spawn_on(serving, &self.runtime);
        self.endpoints.push(endpoint.clone());
        self.orders.push(orders);
        Ok(endpoint)
    }

    /// Waits until the server has confirmed every subscription, and probes how it ends one.
    pub(super) async fn confirm(&mut self) -> Result<(), StartError> {
        let prefix = self.connection.inbox_prefix();
        let inbox = {
            let prefix = prefix.clone();
            self.connection.forbidden(move |violation| violation.is_of_inbox(&prefix))
        };
        self.ends_at_once = tokio::select! {
            known = shutdown::server_ends_at_once(&self.connection, LIVE_LIMIT) => known.map_err(StartError::SubscriptionTimeout)?,
            _ = inbox => return Err(StartError::Inbox { prefix }),
        };
        if !self.ends_at_once {
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

    /// Checks that requests reach the shard.
    ///
    /// # Errors
    /// At once if a subscription is being renewed; after `limit` if no echo comes back.
    pub(super) async fn check(&self, limit: Duration) -> Result<Duration, RoundTripError> {
        if !self.endpoints.iter().all(|endpoint| endpoint.live.load(Ordering::Relaxed)) {
            return Err(RoundTripError { waited: Duration::ZERO });
        }
        self.connection.round_trip(limit).await
    }

    pub(super) fn credits(&self) -> Arc<Credits> {
        self.credits.clone()
    }

    /// Waits for a failure from which the shard cannot recover by itself; returns the failure.
    pub(super) async fn wait_for_failure(&mut self) -> StartError {
        loop {
            tokio::select! {
                _ = self.loops.join_next(), if !self.loops.is_empty() => return StartError::Ended,
                violation = self.violations.recv() => {
                    // A lagging receiver skips the missed violations; the server repeats them at the next reconnect.
                    let Ok(violation) = violation else { continue };
                    if let Some(subject) = self.forbidden_subscription(&violation) {
                        return StartError::Forbidden(vec![subject]);
                    }
                }
            }
        }
    }

    /// Shuts down without losing a request, within `shutdown_timeout` and a little more.
    pub(super) async fn stop(&mut self, shutdown_timeout: Duration) {
        let loops = Loops {
            connection: &self.connection,
            endpoints: &self.endpoints,
            orders: &self.orders,
            ends_at_once: self.ends_at_once,
            unbroken: !self.breaks.has_changed().unwrap_or(true),
        };
        loops.end_intake().await;
        if tokio::time::timeout(shutdown_timeout, join_all(&mut self.loops)).await.is_err() {
            tracing::warn!(limit = ?shutdown_timeout, "handlers still run at the shutdown_timeout limit: their callers are answered 503");
            for orders in &self.orders {
                // A loop that has just ended needs no order.
                let _ = orders.unbounded_send(Order::Abandon);
            }
            let _ = tokio::time::timeout(FAREWELL_LIMIT, join_all(&mut self.loops)).await;
        }
        // The replies were published before this echo, so its return proves that the server has them.
        if let Err(error) = self.connection.round_trip(FAREWELL_LIMIT).await {
            tracing::warn!(%error, "the last answers may be lost");
        }
    }
}

async fn join_all(loops: &mut JoinSet<()>) {
    while loops.join_next().await.is_some() {}
}
