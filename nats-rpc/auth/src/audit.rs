//! Audit events of an auth service.

mod event;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nats_rpc::{Client, Connection};
use nats_rpc_jwt::__private::Clock;
use tokio::sync::{mpsc, oneshot};

pub use self::event::{AuditEvent, AuditRecord};

/// The prefix of the subjects of all events, such as `auth.audit.logged_in`.
const SUBJECT: &str = "auth.audit";
/// The maximum number of events that wait for the connection.
const QUEUE: usize = 1_024;
/// The time limit for one event to wait for the connection, and for a flush in total.
const PATIENCE: Duration = Duration::from_secs(2);

/// Publishes [`AuditEvent`]s to `auth.audit.<name>`, outside of request handling. Cheap to clone.
///
/// [`emit`](Self::emit) never waits: events go through a queue of 1,024. An event that does not fit, or finds no
/// connection, is logged in full as a warning. Delivery is that of core NATS; to keep every event, store
/// `auth.audit.>` in a JetStream stream. The server's permissions control who may subscribe: events contain no
/// secrets, but they reveal users' activity.
///
/// ```no_run
/// use nats_rpc::Client;
/// use nats_rpc_auth::{Audit, AuditEvent};
///
/// # async fn example(connection: nats_rpc::Connection, user: String) {
/// let audit = Audit::new(&Client::new(connection.clone()));
/// audit.emit(AuditEvent::UserLocked { user });
/// # }
/// ```
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    queue: mpsc::Sender<Item>,
    clock: Clock,
    undelivered: Arc<AtomicU64>,
}

enum Item {
    Record(AuditRecord),
    Flush(oneshot::Sender<()>),
}

impl Audit {
    /// Publishes through `client`, in a task that ends with the last clone.
    ///
    /// # Panics
    /// If called outside of a tokio runtime.
    pub fn new(client: &Client) -> Self {
        let (queue, items) = mpsc::channel(QUEUE);
        let undelivered = Arc::new(AtomicU64::new(0));
        tokio::spawn(publish(items, client.timeout(PATIENCE), undelivered.clone()));
        Self(Arc::new(Inner { queue, clock: Clock::default(), undelivered }))
    }

    /// Publishes the single `event` of a program that is about to exit, such as an operator's command.
    pub async fn tell(connection: &Connection, event: AuditEvent) {
        let audit = Self::new(&Client::new(connection.clone()));
        audit.emit(event);
        audit.flush().await;
    }

    /// Publishes `event` with the current time.
    pub fn emit(&self, event: AuditEvent) {
        let record = AuditRecord { at: self.0.clock.unix_millis(), event };
        if let Err(error) = self.0.queue.try_send(Item::Record(record))
            && let Item::Record(record) = error.into_inner()
        {
            missed(&record, &self.0.undelivered, "the queue is full");
        }
    }

    /// Waits until the server has received all earlier events, for at most 2 s; for a program about to exit.
    pub async fn flush(&self) {
        let (done, published) = oneshot::channel();
        let flushed = async {
            if self.0.queue.send(Item::Flush(done)).await.is_ok() {
                // An error means that the task has ended, and there is nothing to wait for.
                let _ = published.await;
            }
        };
        if tokio::time::timeout(PATIENCE, flushed).await.is_err() {
            tracing::warn!("audit events may not have reached nats-server");
        }
    }

    /// Returns the number of unpublished events; each is a warning in the log.
    pub fn undelivered(&self) -> u64 {
        self.0.undelivered.load(Ordering::Relaxed)
    }
}

async fn publish(mut items: mpsc::Receiver<Item>, client: Client, undelivered: Arc<AtomicU64>) {
    while let Some(item) = items.recv().await {
        match item {
            Item::Record(record) => {
                let subject = format!("{SUBJECT}.{}", record.event.name());
                if let Err(error) = client.emit(subject, &record).await {
                    missed(&record, &undelivered, &error);
                }
            }
            Item::Flush(done) => {
                // Events are best effort; only acceptance by the connection can be checked.
                let _ = client.connection().nats().flush().await;
                let _ = done.send(());
            }
        }
    }
}

fn missed(record: &AuditRecord, undelivered: &AtomicU64, why: impl fmt::Display) {
    undelivered.fetch_add(1, Ordering::Relaxed);
    tracing::warn!(at = record.at, event = ?record.event, %why, "an audit event was not published");
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("undelivered", &self.undelivered()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_event_that_does_not_fit_is_counted_and_nobody_waits_for_it() {
        let (queue, _items) = mpsc::channel(1);
        let audit = Audit(Arc::new(Inner { queue, clock: Clock::default(), undelivered: Arc::default() }));
        for _ in 0..3 {
            audit.emit(AuditEvent::AllTokensRevoked);
        }
        assert_eq!(audit.undelivered(), 2);
    }
}
