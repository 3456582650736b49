use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{HeaderMap, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OnceCell, Semaphore, broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use super::error::CallError;
use crate::connection::{Connection, Violation};
use crate::subject::Subject;

/// How many calls may be under way at a time.
const MAX_CALLS: usize = 4_096;

/// Where all answers to one client arrive: one subscription, a token for each call.
///
/// async-nats has the same, but keeps an entry for every call that timed out, has no bound on publishing
/// while the server is away, and does not tell calls that their connection broke.
pub(super) struct Inbox {
    connection: Connection,
    prefix: String,
    pending: Arc<Pending>,
    next: AtomicU64,
    /// Makes tokens of numbers. They are secrets between a caller and whom it asks: who could guess the next
    /// one could answer in another's place.
    tokens: RandomState,
    /// Bounds the calls under way, and with them the memory that a stuck service can cost its callers.
    places: Semaphore,
    /// The task that reads the answers, once the first call has subscribed.
    reader: OnceCell<Reader>,
}

type Outcome = Result<Message, CallError>;

#[derive(Default)]
struct Pending {
    calls: Mutex<HashMap<u64, Call>>,
    /// Whether the server forbids this user its inbox: then no answer can arrive.
    deaf: AtomicBool,
}

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
            tokens: RandomState::new(),
            places: Semaphore::new(MAX_CALLS),
            reader: OnceCell::new(),
        })
    }

    /// Publishes one call and waits for its answer, without an end of its own.
    pub(super) async fn call(&self, subject: &Subject, headers: HeaderMap, payload: Bytes) -> Outcome {
        self.reader.get_or_try_init(|| self.read()).await?;
        let _place = self.places.acquire().await.map_err(|_| CallError::Disconnected)?;
        let token = self.tokens.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        self.pending.lock().insert(token, Call { subject: subject.clone(), answer });
        // Whatever ends this call, its entry goes.
        let _entry = Entry { pending: &self.pending, token };
        if self.pending.deaf.load(Ordering::Relaxed) {
            return Err(CallError::Deaf { inbox: self.prefix.clone() });
        }
        let reply = format!("{}.{token}", self.prefix);
        let to = subject.clone().into_nats();
        let published = self.connection.nats().publish_with_reply_and_headers(to, reply, headers, payload).await;
        published.map_err(|_| CallError::Disconnected)?;
        answered.await.unwrap_or(Err(CallError::Disconnected))
    }

    async fn read(&self) -> Result<Reader, CallError> {
        let live = self.connection.live();
        // Before the subscription, as it may be what is forbidden.
        let violations = self.connection.violations();
        let answers = subscribe(&live.nats, &self.prefix).await?;
        let reading = Reading {
            answers,
            generation: live.generation,
            breaks: self.connection.breaks(),
            violations,
            connection: self.connection.clone(),
            prefix: self.prefix.clone(),
            pending: self.pending.clone(),
        };
        Ok(Reader(tokio::spawn(reading.run()).abort_handle()))
    }
}

async fn subscribe(nats: &async_nats::Client, prefix: &str) -> Result<Subscriber, CallError> {
    nats.subscribe(format!("{prefix}.*")).await.map_err(|_| CallError::Disconnected)
}

/// The reading of the answers.
struct Reading {
    answers: Subscriber,
    generation: u64,
    breaks: watch::Receiver<u64>,
    violations: broadcast::Receiver<Violation>,
    connection: Connection,
    prefix: String,
    pending: Arc<Pending>,
}

impl Reading {
    /// Hands each answer to its call, and tells calls whose answer can no longer come.
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                message = self.answers.next() => match message {
                    Some(message) => self.pending.answer(message),
                    None => self.renew().await,
                },
                _ = self.breaks.changed() => {
                    // async-nats subscribes again, and the server may permit it now.
                    self.pending.deaf.store(false, Ordering::Relaxed);
                    self.pending.fail_all();
                }
                violation = self.violations.recv() => match violation {
                    Ok(violation) if violation.publish => self.pending.forbid(&violation.subject),
                    Ok(violation) if violation.is_of_inbox(&self.prefix) => {
                        self.pending.deaf.store(true, Ordering::Relaxed);
                        self.pending.forbid_all(&self.prefix);
                    }
                    // A reader that is late skips what it missed; those calls end by their deadline.
                    _ => {}
                }
            }
        }
    }

    /// The client of async-nats has died: goes on with the next one.
    async fn renew(&mut self) {
        self.pending.fail_all();
        loop {
            let live = self.connection.renewed(self.generation).await;
            self.generation = live.generation;
            if let Ok(answers) = subscribe(&live.nats, &self.prefix).await {
                self.answers = answers;
                return;
            }
        }
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// No answer can arrive: the inbox itself is forbidden. What was sent may have executed.
    fn forbid_all(&self, inbox: &str) {
        let calls = std::mem::take(&mut *self.lock());
        for call in calls.into_values() {
            call.end(Err(CallError::Deaf { inbox: inbox.to_owned() }));
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
