use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use async_nats::message::OutboundMessage;
use async_nats::{HeaderMap, Message, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot, watch};
use tokio::task::AbortHandle;

use super::call::Prepared;
use super::capture::{Capture, Warnings};
use super::error::CallError;
use super::feed::{Feed, Heard, Word, is_nobody};
use crate::connection::{Connection, Violation};
use crate::inbox_token::{InboxToken, InboxTokens};
use crate::reply_subject::ReplySubjects;
use crate::subject::Subject;
use crate::wire::stream::Frame;

/// The maximum number of concurrent calls.
const MAX_CALLS: usize = 4_096;

/// The inbox of one client: a single subscription receives all replies, and each call has its own token.
///
/// async-nats has a similar inbox. That one keeps an entry for every call that timed out. It does not bound
/// publishing while the server is away, and does not notify calls when their connection breaks.
pub(super) struct Inbox {
    connection: Connection,
    prefix: String,
    pending: Arc<Pending>,
    /// Limits the concurrent calls, and with them the memory that a stuck service can cost its callers.
    places: Arc<Semaphore>,
    /// The number of stream items that may be in flight beyond one per stream.
    spare: Arc<Semaphore>,
    /// The task that reads the replies; present once the first call has subscribed.
    reader: ArcSwapOption<Reader>,
    /// Serializes the start of the reader.
    beginning: tokio::sync::Mutex<()>,
}

type Outcome = Result<Message, CallError>;

struct Pending {
    /// The tokens of all calls. A peer that guessed the token of a call could reply to it.
    tokens: InboxTokens,
    calls: Mutex<HashMap<InboxToken, Call>>,
    replies: Arc<ReplySubjects>,
    warnings: Warnings,
    /// Is `true` if the server forbids this user its inbox: no reply can then arrive.
    deaf: AtomicBool,
}

/// A call that waits for replies.
struct Call {
    capture: Arc<Capture>,
    waiting: Waiting,
}

/// The receiver of the replies.
enum Waiting {
    Once { subject: Subject, answer: oneshot::Sender<Outcome> },
    Feed(Arc<Feed>),
}

struct Reader(AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inbox {
    /// Creates an inbox for calls that have one reply each.
    pub(super) fn of_calls(connection: &Connection) -> Arc<Self> {
        Self::open(connection, MAX_CALLS, 0)
    }

    /// Creates an inbox for streams. Its subscription cannot overflow, whatever the services send. A quarter of it is
    /// reserved for one item of each stream, half for further items, and the rest for other messages.
    pub(super) fn of_streams(connection: &Connection) -> Arc<Self> {
        let capacity = connection.subscription_capacity();
        Self::open(connection, (capacity / 4).max(1), capacity / 2)
    }

    fn open(connection: &Connection, places: usize, spare: usize) -> Arc<Self> {
        Arc::new(Self {
            prefix: connection.new_inbox(),
            connection: connection.clone(),
            pending: Arc::new(Pending::new(connection.reply_subjects())),
            places: Arc::new(Semaphore::new(places)),
            spare: Arc::new(Semaphore::new(spare)),
            reader: ArcSwapOption::empty(),
            beginning: tokio::sync::Mutex::default(),
        })
    }

    /// Publishes one call and waits for its reply, without a timeout of its own.
    pub(super) async fn call(&self, call: &Prepared, headers: HeaderMap) -> Outcome {
        self.listen().await?;
        let _place = self.places.acquire().await.map_err(|_| CallError::Disconnected)?;
        let (answer, answered) = oneshot::channel();
        let token = self.pending.insert(call.capture.clone(), Waiting::Once { subject: call.subject.clone(), answer });
        // The entry is removed however this call ends.
        let _placed = Placed { pending: &self.pending, token };
        self.publish(call, token, headers).await?;
        answered.await.unwrap_or(Err(CallError::Disconnected))
    }

    /// Waits for capacity for a call with several replies, of which at most `window` are in flight at a time.
    pub(super) async fn reserve(&self, window: u64) -> Result<Place, CallError> {
        self.listen().await?;
        let call = self.places.clone().acquire_owned().await.map_err(|_| CallError::Disconnected)?;
        // One item is always covered. Further items use the capacity that is free now: a smaller window is better than
        // a wait.
        let more = usize::try_from(window - 1).unwrap_or(usize::MAX).min(self.spare.available_permits());
        let more = u32::try_from(more).ok().and_then(|more| self.spare.clone().try_acquire_many_owned(more).ok());
        Ok(Place { _call: call, more })
    }

    /// Publishes one call whose replies go to `feed`.
    pub(super) async fn seat(
        self: &Arc<Self>,
        place: Place,
        feed: Feed,
        call: &Prepared,
        headers: HeaderMap,
    ) -> Result<Seat, CallError> {
        let (feed, capture) = (Arc::new(feed), call.capture.clone());
        let token = self.pending.insert(capture.clone(), Waiting::Feed(feed.clone()));
        // From here on, the entry is removed together with the seat.
        let seat = Seat { inbox: self.clone(), token, feed, capture, place: Some(place) };
        self.publish(call, token, headers).await?;
        Ok(seat)
    }

    async fn publish(&self, call: &Prepared, token: InboxToken, headers: HeaderMap) -> Result<(), CallError> {
        if self.pending.deaf.load(Ordering::Relaxed) {
            return Err(CallError::InboxForbidden { inbox: self.prefix.clone() });
        }
        let reply = format!("{}.{}", self.prefix, self.pending.tokens.text(token));
        let (to, body) = (call.subject.clone().into_nats(), call.payload.clone());
        let published = self.connection.nats().publish_with_reply_and_headers(to, reply, headers, body).await;
        published.map_err(|_| CallError::Disconnected)?;
        call.sent.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Starts the reader of the replies if it does not run.
    async fn listen(&self) -> Result<(), CallError> {
        if self.is_listening() {
            return Ok(());
        }
        let _turn = self.beginning.lock().await;
        if !self.is_listening() {
            // Calls of a reader that has ended receive no replies.
            self.pending.fail_all();
            self.reader.store(Some(Arc::new(self.read().await?)));
        }
        Ok(())
    }

    fn is_listening(&self) -> bool {
        self.reader.load().as_ref().is_some_and(|reader| !reader.0.is_finished())
    }

    async fn read(&self) -> Result<Reader, CallError> {
        let live = self.connection.live();
        // Created before the subscription, as the server may forbid the subscription itself.
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
        Ok(Reader(self.connection.spawn(reading.run())))
    }
}

/// The capacity for one call with several replies.
pub(super) struct Place {
    _call: OwnedSemaphorePermit,
    more: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Returns the maximum number of its replies in flight.
    pub(super) fn window(&self) -> u64 {
        1 + self.more.as_ref().map_or(0, |more| more.num_permits() as u64)
    }
}

/// The entry of a call with several replies; dropping this value removes the entry.
pub(super) struct Seat {
    inbox: Arc<Inbox>,
    token: InboxToken,
    feed: Arc<Feed>,
    capture: Arc<Capture>,
    place: Option<Place>,
}

impl Seat {
    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }

    /// Returns the error of a call that has received only the acknowledgement of a stream so far.
    pub(super) fn captured(&self) -> Option<CallError> {
        let captured = self.capture.error(self.feed.subject().as_str());
        captured.filter(|_| !self.feed.is_opened())
    }

    /// Sends a frame to the service, if there is one.
    pub(super) fn say(&self, word: Option<Word>) {
        say(&self.inbox.connection, word);
    }

    /// Removes the entry; cancels the service's stream if it has not ended.
    pub(super) fn leave(&mut self) {
        if self.place.take().is_some() {
            self.inbox.pending.lock().remove(&self.token);
            self.say(self.feed.close());
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Sends one frame. If the connection does not accept it now, the frame is requested again later or was not needed.
fn say(connection: &Connection, word: Option<Word>) {
    if let Some((subject, frame)) = word {
        let headers = Some(frame.headers());
        connection.try_publish(OutboundMessage { subject, reply: None, payload: Bytes::new(), headers });
    }
}

async fn subscribe(nats: &async_nats::Client, prefix: &str) -> Result<Subscriber, CallError> {
    nats.subscribe(format!("{prefix}.*")).await.map_err(|_| CallError::Disconnected)
}

/// The state of the reader task.
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
    /// Passes each reply to its call, and fails the calls whose reply can no longer arrive.
    async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                message = self.answers.next() => match message {
                    Some(message) => say(&self.connection, self.pending.answer(message)),
                    None => self.renew().await,
                },
                _ = self.breaks.changed() => {
                    // async-nats subscribes again after a reconnect, and the server may permit it now.
                    self.pending.deaf.store(false, Ordering::Relaxed);
                    self.pending.fail_all();
                }
                violation = self.violations.recv() => match violation {
                    Ok(violation) if violation.publish => self.pending.forbid(&violation.subject),
                    Ok(violation) if violation.is_of_inbox(&self.prefix) => {
                        self.pending.deaf.store(true, Ordering::Relaxed);
                        self.pending.forbid_all(&self.prefix);
                    }
                    // A lagging receiver skips the missed events; the affected calls end at their deadline.
                    _ => {}
                }
            }
        }
    }

    /// Continues on the next async-nats client after this one has ended.
    async fn renew(&mut self) {
        self.pending.fail_all();
        loop {
            let live = self.connection.renewed(self.generation).await;
            self.generation = live.generation;
            if let Ok(answers) = subscribe(&live.nats, &self.prefix).await {
                self.answers = answers;
                // The calls of the old client have been failed; the calls of the next one have lost nothing.
                self.breaks.mark_unchanged();
                return;
            }
        }
    }
}

impl Pending {
    fn new(replies: Arc<ReplySubjects>) -> Self {
        Self {
            tokens: InboxTokens::default(),
            calls: Mutex::default(),
            replies,
            warnings: Warnings::default(),
            deaf: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InboxToken, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, capture: Arc<Capture>, waiting: Waiting) -> InboxToken {
        let token = self.tokens.issue();
        self.lock().insert(token, Call { capture, waiting });
        token
    }

    /// Passes a message to its call; returns the frame for its sender, if any.
    ///
    /// A message with a token that this inbox did not issue is ignored: its sender guessed the token.
    fn answer(&self, mut message: Message) -> Option<Word> {
        let token = self.tokens.recognize(&message.subject)?;
        // The service of a stream chooses the subject that credit is sent to.
        message.reply = message.reply.filter(|reply| self.replies.admit(reply));
        let mut calls = self.lock();
        let feed = match calls.entry(token) {
            Entry::Occupied(call) if call.get().capture.holds_back(&message) => {
                let (capture, subject) = (call.get().capture.clone(), call.get().subject().clone());
                drop(calls);
                self.warnings.warn(subject.as_str(), &capture);
                return None;
            }
            Entry::Occupied(call) => match &call.get().waiting {
                Waiting::Feed(feed) => feed.clone(),
                Waiting::Once { .. } => {
                    let call = call.remove();
                    drop(calls);
                    call.answer(message);
                    return None;
                }
            },
            // A reply that has no waiting call any more, or a second reply. If it belongs to a stream, the stream is
            // cancelled.
            Entry::Vacant(_) => {
                drop(calls);
                return Some((message.reply?, Frame::Cancel));
            }
        };
        drop(calls);
        let Heard { ended, say } = feed.hear(message);
        if ended {
            self.lock().remove(&token);
        }
        say
    }

    /// Fails all calls after the connection broke: replies in flight are lost with it.
    fn fail_all(&self) {
        let calls = std::mem::take(&mut *self.lock());
        for call in calls.into_values() {
            let subject = call.subject().to_string();
            call.fail(CallError::ConnectionLost { subject });
        }
    }

    /// Fails all calls because the inbox itself is forbidden and no reply can arrive. Calls that were sent may have
    /// executed.
    fn forbid_all(&self, inbox: &str) {
        let calls = std::mem::take(&mut *self.lock());
        for call in calls.into_values() {
            call.fail(CallError::InboxForbidden { inbox: inbox.to_owned() });
        }
    }

    /// Handles a forbidden publish to `subject`: a call, or a frame for the service of a stream.
    fn forbid(&self, subject: &str) {
        let is_for = |call: &Call| match &call.waiting {
            Waiting::Once { subject: called, .. } => called.as_str() == subject,
            Waiting::Feed(feed) => feed.subject().as_str() == subject || feed.talks_to(subject),
        };
        let forbidden: Vec<Call> = self.lock().extract_if(|_, call| is_for(call)).map(|(_, call)| call).collect();
        for call in forbidden {
            call.fail(CallError::Forbidden { subject: subject.to_owned() });
        }
    }
}

impl Call {
    fn subject(&self) -> &Subject {
        match &self.waiting {
            Waiting::Once { subject, .. } => subject,
            Waiting::Feed(feed) => feed.subject(),
        }
    }

    fn answer(self, message: Message) {
        let Waiting::Once { subject, answer } = self.waiting else { return };
        let outcome = match is_nobody(&message) {
            true => Err(CallError::NoResponders { subject: subject.to_string() }),
            false => Ok(message),
        };
        // The caller may have dropped the call at this moment.
        let _ = answer.send(outcome);
    }

    fn fail(self, error: CallError) {
        match self.waiting {
            // The caller may have dropped the call at this moment.
            Waiting::Once { answer, .. } => drop(answer.send(Err(error))),
            Waiting::Feed(feed) => feed.fail(error),
        }
    }
}

struct Placed<'a> {
    pending: &'a Pending,
    token: InboxToken,
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.token);
    }
}
