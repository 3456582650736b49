//! Graceful shutdown of a service, without losing a request.
//!
//! A subscription cannot simply be ended: async-nats forgets it before the server's last messages have arrived. An
//! `UNSUB` with a count too long for the server to parse makes the server end the subscription at once. async-nats
//! never reaches that count, so it keeps listening. An echo then proves that all messages from the server have
//! arrived. [`count`] handles servers that behave differently. ARCHITECTURE.md lists the assumptions.

mod count;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::sync::oneshot;

use super::dispatch::Endpoint;
use crate::connection::Connection;

/// A count that the server cannot parse.
const UNREACHABLE: u64 = u64::MAX;
/// The time limit for the server to confirm that it sends no more.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);
/// The time limit for handing one order to the connection.
const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// An order to the loop of an endpoint.
pub(super) enum Order {
    /// Apply `step` to the subscription; `done` is dropped or notified once it is done.
    Subscription { step: Step, done: oneshot::Sender<()> },
    /// Reply 503 to all remaining requests and end.
    Abandon,
}

/// One step of ending a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The server sends no more; the messages that it has already sent still arrive.
    EndAtServer,
    /// Read the messages that have arrived, and end.
    EndHere,
    /// Both sides end after this many further messages; done when they have arrived.
    EndAfter(u64),
    /// The server sends no more; messages that arrive late may be lost.
    Drain,
}

impl Step {
    /// Applies the step to a subscription that has received `received` messages.
    pub(super) async fn apply(self, subscriber: &mut Subscriber, received: u64) {
        let applied = async {
            match self {
                Self::EndAtServer => subscriber.unsubscribe_after(UNREACHABLE).await,
                Self::EndHere => subscriber.unsubscribe().await,
                Self::EndAfter(more) => subscriber.unsubscribe_after(received + more).await,
                Self::Drain => subscriber.drain().await,
            }
        };
        // This blocks while the connection is down; there is nothing to unsubscribe from then.
        if !matches!(tokio::time::timeout(ORDER_LIMIT, applied).await, Ok(Ok(()))) {
            tracing::warn!(step = ?self, "a subscription could not be ended in order: the connection is down");
        }
    }
}

/// The loops of one connection, for their shutdown.
pub(super) struct Loops<'a> {
    pub(super) connection: &'a Connection,
    pub(super) endpoints: &'a [Arc<Endpoint>],
    pub(super) orders: &'a [mpsc::UnboundedSender<Order>],
    /// Is `true` if a probe showed that the server ends a subscription at once.
    pub(super) ends_at_once: bool,
    /// Is `true` if the connection has not broken since before the subscriptions: client and server counts then agree.
    pub(super) unbroken: bool,
}

impl Loops<'_> {
    /// Ends the intake of every loop. When it returns, each loop has all messages that the server ever sent it.
    pub(super) async fn end_intake(&self) {
        let connection = self.connection;
        // The first probe may have failed by accident, or the connection may have moved to another server since.
        if !self.ends_at_once && !server_ends_at_once(connection, BARRIER_LIMIT).await.unwrap_or(false) {
            return self.end_by_count().await;
        }
        self.order_all(Step::EndAtServer).await;
        let probe = Probe::send(connection).await;
        if let Err(error) = connection.round_trip(BARRIER_LIMIT).await {
            tracing::warn!(%error, "requests may be lost: nats-server did not confirm that it sends no more");
        }
        if probe.is_some_and(Probe::was_delivered) {
            return self.end_by_count().await;
        }
        self.order_all(Step::EndHere).await;
    }

    async fn order_all(&self, step: Step) {
        let all: Vec<_> = self.orders.iter().map(|orders| order(orders, step)).collect();
        let _ = futures::future::join_all(all).await;
    }
}

/// Sends an order to one loop; the returned receiver is ready once the loop has done it.
fn order(orders: &mpsc::UnboundedSender<Order>, step: Step) -> oneshot::Receiver<()> {
    let (done, told) = oneshot::channel();
    // A loop that has ended needs no order.
    let _ = orders.unbounded_send(Order::Subscription { step, done });
    told
}

/// Probes whether this server still ends a subscription at once on a count that it cannot parse.
///
/// # Errors
/// If the echo does not come back, the probe has no result.
pub(super) async fn server_ends_at_once(
    connection: &Connection,
    limit: Duration,
) -> Result<bool, crate::RoundTripError> {
    let breaks = connection.breaks();
    let probe = Probe::send(connection).await;
    connection.round_trip(limit).await?;
    // A server that treats the count as a protocol error closes the connection.
    let unbroken = !breaks.has_changed().unwrap_or(true);
    Ok(unbroken && probe.is_some_and(|probe| !probe.was_delivered()))
}

/// A message sent to a subscription that the server should already have ended.
struct Probe(Subscriber);

impl Probe {
    async fn send(connection: &Connection) -> Option<Self> {
        let nats = connection.nats();
        let sent = async {
            let inbox = connection.new_inbox();
            let mut subscription = nats.subscribe(inbox.clone()).await.ok()?;
            subscription.unsubscribe_after(UNREACHABLE).await.ok()?;
            nats.publish(inbox, bytes::Bytes::new()).await.ok()?;
            Some(Self(subscription))
        };
        tokio::time::timeout(ORDER_LIMIT, sent).await.ok().flatten()
    }

    /// Checked after an echo, by which time a delivery would have arrived.
    fn was_delivered(mut self) -> bool {
        futures::FutureExt::now_or_never(self.0.next()).flatten().is_some()
    }
}
