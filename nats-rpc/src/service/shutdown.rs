//! How a service stops without losing a request.
//!
//! A subscription cannot simply be ended: async-nats forgets it before the server's last messages have
//! arrived. `UNSUB` with a count too long for the server to parse makes the server end it at once while
//! async-nats, for which the count is never reached, keeps listening. An echo then proves that all the
//! server had sent is here. A server that does otherwise is left by [`count`]. ARCHITECTURE.md says what this rests on.

mod count;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::sync::oneshot;

use super::dispatch::Endpoint;
use crate::connection::Connection;

/// The count that the server cannot parse.
const UNREACHABLE: u64 = u64::MAX;
/// How long the server may take to confirm that it sends no more.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);
/// How long handing one order to the connection may take.
const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// What the loop of an endpoint is told.
pub(super) enum Order {
    /// Do `step` on the subscription; `done` is dropped, or told, once it is done.
    Subscription { step: Step, done: oneshot::Sender<()> },
    /// Answer everything that is left with 503 and end.
    Abandon,
}

/// One step of ending a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The server sends no more; what it has sent still arrives.
    EndAtServer,
    /// Read what has arrived, and end.
    EndHere,
    /// Both sides end after so many messages more; done when that many have come.
    EndAfter(u64),
    /// The server sends no more; what comes late may be lost.
    Drain,
}

impl Step {
    /// Does the step on a subscription that has `received` messages.
    pub(super) async fn apply(self, subscriber: &mut Subscriber, received: u64) {
        let applied = async {
            match self {
                Self::EndAtServer => subscriber.unsubscribe_after(UNREACHABLE).await,
                Self::EndHere => subscriber.unsubscribe().await,
                Self::EndAfter(more) => subscriber.unsubscribe_after(received + more).await,
                Self::Drain => subscriber.drain().await,
            }
        };
        // A connection that is down blocks here; there is nothing to unsubscribe from then.
        if !matches!(tokio::time::timeout(ORDER_LIMIT, applied).await, Ok(Ok(()))) {
            tracing::warn!(step = ?self, "a subscription could not be ended in order: the connection is down");
        }
    }
}

/// The loops of one connection, as their stop sees them.
pub(super) struct Loops<'a> {
    pub(super) connection: &'a Connection,
    pub(super) endpoints: &'a [Arc<Endpoint>],
    pub(super) orders: &'a [mpsc::UnboundedSender<Order>],
    /// Whether the server was seen to end a subscription at once.
    pub(super) ends_at_once: bool,
    /// Whether the connection has stood since before the subscriptions: client and server count alike then.
    pub(super) unbroken: bool,
}

impl Loops<'_> {
    /// Ends the intake of every loop: when it returns, each has all that the server ever sent it.
    pub(super) async fn end_intake(&self) {
        let connection = self.connection;
        // It may have been asked at a bad time, or the connection has come to another server since.
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

/// Tells one loop; what is returned is ready once it has done it.
fn order(orders: &mpsc::UnboundedSender<Order>, step: Step) -> oneshot::Receiver<()> {
    let (done, told) = oneshot::channel();
    // A loop that has ended needs no order.
    let _ = orders.unbounded_send(Order::Subscription { step, done });
    told
}

/// Whether this server still ends a subscription at once on a count that it cannot parse.
///
/// # Errors
/// Without an answer from the server, nothing can be said.
pub(super) async fn server_ends_at_once(
    connection: &Connection,
    limit: Duration,
) -> Result<bool, crate::RoundTripError> {
    let breaks = connection.breaks();
    let probe = Probe::send(connection).await;
    connection.round_trip(limit).await?;
    // A server that takes the count for an error of the protocol hangs up.
    let unbroken = !breaks.has_changed().unwrap_or(true);
    Ok(unbroken && probe.is_some_and(|probe| !probe.was_delivered()))
}

/// A message sent to a subscription that the server should have ended already.
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

    /// Asked behind an echo, when a delivery would have arrived.
    fn was_delivered(mut self) -> bool {
        futures::FutureExt::now_or_never(self.0.next()).flatten().is_some()
    }
}
