//! The task of one endpoint: polls the worker, handles shutdown orders and re-subscribes after reconnects.
//!
//! [`worker`](super::worker) processes the messages.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_nats::Subscriber;
use futures::Stream;
use futures::channel::mpsc;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use super::credit::Credits;
use super::permits::Permits;
use super::shutdown::{Order, Step};
use super::stats::Counters;
use super::worker::{Done, Worker};
use crate::connection::{Connection, Live};
use crate::deadline::Allowance;
use crate::reply_subject::ReplySubjects;
use crate::route::BoundRoute;
use crate::wire::WireFormat;

/// One route, ready to serve.
pub(super) struct Endpoint {
    pub(super) route: Arc<BoundRoute>,
    pub(super) wire: WireFormat,
    /// Is `true` if it accepts messages that nats-server forwards from a stream.
    pub(super) republished: bool,
    pub(super) concurrency: usize,
    pub(super) backlog: usize,
    pub(super) allowance: Allowance,
    /// The longest time that its streams may go without sending an item.
    pub(super) stream_idle_timeout: Duration,
    /// The permits that all endpoints of the service share.
    pub(super) permits: Arc<Permits>,
    /// The reply subjects that the service publishes to.
    pub(super) replies: Arc<ReplySubjects>,
    /// The inbox for stream callers, shared by all endpoints of the connection.
    pub(super) credits: Arc<Credits>,
    pub(super) counters: Counters,
    /// Is `true` while its subscription is active.
    pub(super) live: AtomicBool,
}

/// Serves `intake` until it receives a shutdown order and every handler has finished.
pub(super) async fn serve(
    endpoint: Arc<Endpoint>,
    intake: Intake,
    connection: Connection,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut generation = intake.generation;
    let mut worker = Worker::new(&endpoint, intake);
    let mut stopping = false;
    // Notified at the end of the subscription.
    let mut counting: Option<oneshot::Sender<()>> = None;
    let mut renewal: Option<BoxFuture<'_, Renewed>> = None;
    loop {
        let next = poll_fn(|cx| {
            if let Poll::Ready(Some(order)) = Pin::new(&mut orders).poll_next(cx) {
                return Poll::Ready(Next::Order(order));
            }
            if let Some(renewal) = &mut renewal
                && let Poll::Ready(renewed) = renewal.as_mut().poll(cx)
            {
                return Poll::Ready(Next::Renewed(renewed));
            }
            let polled = worker.poll(cx);
            if polled.is_ready() {
                counting = None;
            }
            match polled {
                Poll::Ready(Done::All) if stopping => Poll::Ready(Next::Done),
                Poll::Ready(_) if renewal.is_none() && (!stopping || worker.is_stranded()) => Poll::Ready(Next::Lost),
                _ => Poll::Pending,
            }
        });
        match next.await {
            Next::Done => return,
            Next::Order(Order::Abandon) => worker.abandon(),
            Next::Order(Order::Subscription { step, done }) => {
                stopping = true;
                renewal = None;
                let received = worker.received();
                step.apply(&mut worker.subscriber, received).await;
                match step {
                    Step::EndAfter(_) => counting = Some(done),
                    // The receiver is gone only if the shutdown has reached its limit.
                    Step::EndAtServer | Step::EndHere | Step::Drain => drop(done.send(())),
                }
            }
            Next::Lost => {
                endpoint.live.store(false, Ordering::Relaxed);
                renewal = Some(Box::pin(endpoint.renew(&connection, generation, stopping)));
            }
            Next::Renewed(Renewed { subscriber, live }) => {
                generation = live.generation;
                renewal = None;
                endpoint.live.store(subscriber.is_some(), Ordering::Relaxed);
                worker.resume(subscriber, &live);
            }
        }
    }
}

/// Events that interrupt the endpoint loop.
enum Next {
    Order(Order),
    /// The subscription ended unexpectedly: the async-nats client has ended.
    Lost,
    Renewed(Renewed),
    Done,
}

/// A subscription with its client.
pub(super) struct Intake {
    pub(super) subscriber: Subscriber,
    pub(super) nats: async_nats::Client,
    generation: u64,
}

/// A client that replaces an ended one, and the subscription on it; `None` if the loop is shutting down.
struct Renewed {
    subscriber: Option<Subscriber>,
    live: Arc<Live>,
}

impl Endpoint {
    /// Subscribes on the current client.
    ///
    /// # Errors
    /// If that client has ended.
    pub(super) async fn subscribe(&self, live: &Live) -> Result<Intake, async_nats::SubscribeError> {
        let entry = &self.route.entry;
        let subject = entry.pattern.subject().to_owned();
        let subscriber = match entry.queue.clone() {
            Some(queue) => live.nats.queue_subscribe(subject, queue).await?,
            None => live.nats.subscribe(subject).await?,
        };
        Ok(Intake { subscriber, nats: live.nats.clone(), generation: live.generation })
    }

    /// Subscribes on the first client after `generation` that accepts the subscription.
    ///
    /// A loop that is shutting down takes no more messages; it needs the client only for its replies.
    async fn renew(&self, connection: &Connection, mut generation: u64, stopping: bool) -> Renewed {
        loop {
            let live = connection.renewed(generation).await;
            if stopping {
                return Renewed { subscriber: None, live };
            }
            match self.subscribe(&live).await {
                Ok(Intake { subscriber, .. }) => return Renewed { subscriber: Some(subscriber), live },
                Err(_) => generation = live.generation,
            }
        }
    }
}
