//! How a service stops without losing a request.
//!
//! A subscription cannot simply be ended: async-nats forgets it before the server's last messages have
//! arrived. `UNSUB` with a count too long for the server to parse makes the server end it at once while
//! async-nats, for which the count is never reached, keeps listening. An echo then proves that all the
//! server had sent is here. ARCHITECTURE.md says what this rests on.

use std::time::Duration;

use async_nats::Subscriber;
use futures::StreamExt;
use futures::channel::mpsc;
use tokio::sync::oneshot;

use crate::connection::Connection;

/// The count that the server cannot parse.
const UNREACHABLE: u64 = u64::MAX;
/// How long the server may take to confirm that it sends no more.
const BARRIER_LIMIT: Duration = Duration::from_secs(5);
/// How long handing one order to the connection may take.
const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// What the loop of an endpoint is told.
pub(super) enum Order {
    /// Do `step` on the subscription.
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
}

impl Step {
    pub(super) async fn apply(self, subscriber: &mut Subscriber) {
        let applied = async {
            match self {
                Self::EndAtServer => subscriber.unsubscribe_after(UNREACHABLE).await,
                Self::EndHere => subscriber.unsubscribe().await,
            }
        };
        // A connection that is down blocks here; there is nothing to unsubscribe from then.
        if !matches!(tokio::time::timeout(ORDER_LIMIT, applied).await, Ok(Ok(()))) {
            tracing::warn!(step = ?self, "a subscription could not be ended in order: the connection is down");
        }
    }
}

/// Ends the intake of every loop: when it returns, each has all that the server ever sent it.
pub(super) async fn end_intake(connection: &Connection, loops: &[mpsc::UnboundedSender<Order>]) {
    order_all(loops, Step::EndAtServer).await;
    let probe = Probe::send(connection).await;
    if let Err(error) = connection.echo(BARRIER_LIMIT).await {
        tracing::warn!(%error, "requests may be lost: nats-server did not confirm that it sends no more");
    }
    if let Some(probe) = probe
        && probe.was_delivered()
    {
        tracing::warn!("requests may be lost: this nats-server does not end a subscription at once");
    }
    order_all(loops, Step::EndHere).await;
}

async fn order_all(loops: &[mpsc::UnboundedSender<Order>], step: Step) {
    let orders = loops.iter().map(|orders| {
        let (done, told) = oneshot::channel();
        // A loop that has ended needs no order.
        let _ = orders.unbounded_send(Order::Subscription { step, done });
        told
    });
    let all: Vec<_> = orders.collect();
    let _ = futures::future::join_all(all).await;
}

/// Whether this server still ends a subscription at once on a count that it cannot parse.
///
/// # Errors
/// Without an answer from the server, nothing can be said.
pub(super) async fn server_ends_at_once(connection: &Connection, limit: Duration) -> Result<bool, crate::EchoError> {
    let probe = Probe::send(connection).await;
    connection.echo(limit).await?;
    Ok(probe.is_some_and(|probe| !probe.was_delivered()))
}

/// A message sent to a subscription that the server should have ended already.
struct Probe(Subscriber);

impl Probe {
    async fn send(connection: &Connection) -> Option<Self> {
        let nats = connection.nats();
        let sent = async {
            let inbox = nats.new_inbox();
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
