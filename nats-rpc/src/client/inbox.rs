use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OnceCell, broadcast, oneshot};
use tokio::task::AbortHandle;

use super::error::CallError;
use crate::connection::{Connection, ConnectionState, Violation};
use crate::subject::Subject;

/// Where all answers to one client arrive: one subscription, a token for each call.
///
/// async-nats has the same, but keeps an entry for every call that timed out, has no bound on publishing
/// while the server is away, and does not tell calls that their connection broke.
pub(super) struct Inbox {
    connection: Connection,
    prefix: String,
    pending: Arc<Pending>,
    next: AtomicU64,
    /// The task that reads the answers, once the first call has subscribed.
    reader: OnceCell<Reader>,
}

type Outcome = Result<Message, CallError>;

#[derive(Default)]
struct Pending(Mutex<HashMap<u64, Call>>);

struct Call {
    subject: Subject,
    answer: oneshot::Sender<Outcome>,
}

struct Reader(AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inbox {
    pub(super) fn open(connection: &Connection) -> Arc<Self> {
        Arc::new(Self {
            prefix: connection.nats().new_inbox(),
            connection: connection.clone(),
            pending: Arc::default(),
            next: AtomicU64::new(0),
            reader: OnceCell::new(),
        })
    }

    /// Publishes one call and waits for its answer, without an end of its own.
    pub(super) async fn call(&self, subject: &Subject, headers: HeaderMap, payload: Bytes) -> Outcome {
        self.reader.get_or_try_init(|| self.read()).await?;
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.pending.lock().insert(token, Call { subject: subject.clone(), answer });
        // Whatever ends this call, its entry goes.
        let _entry = Entry { pending: &self.pending, token };
        let reply = format!("{}.{token}", self.prefix);
        let to = subject.clone().into_nats();
        let published = self.connection.nats().publish_with_reply_and_headers(to, reply, headers, payload).await;
        published.map_err(|_| CallError::Disconnected)?;
        answered.await.unwrap_or(Err(CallError::Disconnected))
    }

    async fn read(&self) -> Result<Reader, CallError> {
        let nats = self.connection.nats();
        let answers = nats.subscribe(format!("{}.*", self.prefix)).await.map_err(|_| CallError::Disconnected)?;
        let violations = self.connection.violations();
        let task = tokio::spawn(read(self.connection.clone(), answers, violations, self.pending.clone()));
        Ok(Reader(task.abort_handle()))
    }
}

/// Hands each answer to its call, and tells calls whose answer can no longer come.
async fn read(
    connection: Connection,
    mut answers: Subscriber,
    mut violations: broadcast::Receiver<Violation>,
    pending: Arc<Pending>,
) {
    let is_up = |state: &ConnectionState| matches!(state, ConnectionState::Connected | ConnectionState::LameDuck);
    loop {
        tokio::select! {
            biased;
            message = answers.next() => match message {
                Some(message) => pending.answer(message),
                None => return pending.fail_all(),
            },
            () = connection.wait_for(|state| !is_up(state)), if is_up(&connection.state()) => pending.fail_all(),
            () = connection.wait_for(is_up), if !is_up(&connection.state()) => {}
            violation = violations.recv() => {
                // A reader that is late skips what it missed; those calls end by their deadline.
                if let Ok(violation) = violation && violation.publish {
                    pending.forbid(&violation.subject);
                }
            }
        }
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, message: Message) {
        let token = message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok());
        // An answer that nobody waits for any more, or a second one.
        let Some(call) = token.and_then(|token: u64| self.lock().remove(&token)) else { return };
        let nobody = message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty();
        let outcome = match nobody {
            true => Err(CallError::NoResponders { subject: call.subject.to_string() }),
            false => Ok(message),
        };
        call.end(outcome);
    }

    /// The connection broke: answers on their way are lost with it.
    fn fail_all(&self) {
        let calls = std::mem::take(&mut *self.lock());
        for call in calls.into_values() {
            let subject = call.subject.to_string();
            call.end(Err(CallError::ConnectionLost { subject }));
        }
    }

    fn forbid(&self, subject: &str) {
        let forbidden: Vec<Call> = {
            let mut calls = self.lock();
            calls.extract_if(|_, call| call.subject.as_str() == subject).map(|(_, call)| call).collect()
        };
        for call in forbidden {
            let subject = call.subject.to_string();
            call.end(Err(CallError::Forbidden { subject }));
        }
    }
}

impl Call {
    fn end(self, outcome: Outcome) {
        // The caller may have given up in this very moment.
        let _ = self.answer.send(outcome);
    }
}

struct Entry<'a> {
    pending: &'a Pending,
    token: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.token);
    }
}
