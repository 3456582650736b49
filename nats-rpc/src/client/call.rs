//! Calls with one answer, and events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Client;
use super::answer::decode;
use super::capture::Capture;
use super::error::CallError;
use super::feed::{Feed, Speech};
use super::inbox::Inbox;
use super::nest::{self, Target};
use super::observe::observed;
use super::retry::Backoff;
use super::stream::{Receiver, Terms};
use crate::connection::ConnectionState;
use crate::deadline::{self, LONGEST};
use crate::decode::{from_json, unwritable};
use crate::error::Code;
use crate::message::Headers;
use crate::subject::Subject;
use crate::trace;
use crate::wire::stream::Frame;

/// A call, ready to be sent as often as it has to be.
pub(super) struct Prepared {
    pub(super) subject: Subject,
    headers: Headers,
    pub(super) payload: Bytes,
    /// The id of a call in NestJS's dialect.
    id: Option<String>,
    /// What it makes of acknowledgements by a stream that captures its subject.
    pub(super) capture: Arc<Capture>,
    /// Whether the connection has taken an attempt.
    pub(super) sent: AtomicBool,
}

impl Client {
    /// Calls the handler of `subject` and waits for its answer.
    ///
    /// # Errors
    /// - [`CallError::Remote`]: the handler answered with an error.
    /// - [`CallError::NoResponders`]: nobody listens to `subject`, nor began to within the
    ///   [timeout for them](Self::no_responders_timeout); nothing was executed.
    /// - [`CallError::CapturedByStream`]: no reply came but the acknowledgement of a JetStream stream that captures
    ///   `subject`; it may have executed.
    /// - [`CallError::TimedOut`], [`CallError::ConnectionLost`]: no answer came; it may have executed, unless the
    ///   former says that it was not sent.
    /// - [`CallError::Disconnected`]: there is no connection now; nothing was sent. Not with
    ///   [`wait_for_ready`](Self::wait_for_ready).
    /// - [`CallError::Forbidden`]: this user may not publish to `subject`; nothing was executed.
    /// - [`CallError::InboxForbidden`]: this user may not listen for the answer; it may have executed.
    /// - [`CallError::Invalid`], [`CallError::TooLarge`]: the call cannot be sent as it is.
    /// - [`CallError::Decode`]: the answer is not an `R`.
    /// - [`CallError::IncompleteResponse`]: a [NestJS](Self::nest) service answered with several values.
    pub async fn send<R: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        let subject = subject.as_ref();
        observed(subject, false, self.call(subject, data)).await
    }

    async fn call<R: DeserializeOwned>(&self, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<R, CallError> {
        let call = self.prepare::<R>(subject, data)?;
        let started = Instant::now();
        let until = self.deadline(started, self.timeout);
        self.persist(&call, started, until, || self.attempt(&call, started, until)).await
    }

    async fn attempt<R: DeserializeOwned>(
        &self,
        call: &Prepared,
        started: Instant,
        until: Instant,
    ) -> Result<R, CallError> {
        if call.id.is_some() {
            // What ends this is the deadline of the whole.
            let terms = Terms { started, until, item: Duration::MAX };
            let value = only(self.open(&self.inbox, call, terms).await?).await?;
            return from_json(&value).map_err(CallError::Decode);
        }
        self.ready().await?;
        let headers = self.headers_of(call, until);
        self.check_size(&headers, &call.payload)?;
        let answer = self.inbox.call(call, headers).await?;
        decode(answer.headers.as_ref(), &answer.payload)
    }

    /// Sends a call that may have several answers.
    pub(super) async fn open(&self, inbox: &Arc<Inbox>, call: &Prepared, terms: Terms) -> Result<Receiver, CallError> {
        self.ready().await?;
        let place = inbox.reserve(self.window).await?;
        let window = place.window();
        let mut headers = self.headers_of(call, terms.until);
        let speech = match &call.id {
            Some(id) => Speech::Nest { id: id.clone() },
            None => {
                Frame::Open(window).write(&mut headers);
                Speech::Native
            }
        };
        self.check_size(&headers, &call.payload)?;
        let feed = Feed::new(call.subject.clone(), speech, window);
        let seat = inbox.seat(place, feed, call, headers).await?;
        Ok(Receiver::new(seat, terms))
    }

    fn headers_of(&self, call: &Prepared, until: Instant) -> HeaderMap {
        let mut headers = call.headers.clone().into_nats();
        deadline::write(&mut headers, until.saturating_duration_since(Instant::now()));
        trace::inject(&mut headers);
        headers
    }

    /// Attempts a call until it succeeds, cannot, or is late.
    pub(super) async fn persist<T, F>(
        &self,
        prepared: &Prepared,
        started: Instant,
        until: Instant,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        // Time is kept for saying that nobody listens: "may have executed" would be wrong.
        let patience = self.no_responders_timeout.min(until.saturating_duration_since(started) / 2);
        let call = async {
            let mut backoff = Backoff::default();
            self.budget.deposit();
            loop {
                let error = match attempt().await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                if !self.is_worth_another(&error, started.elapsed() < patience) {
                    return Err(error);
                }
                backoff.pause().await;
            }
        };
        let timed_out = || {
            prepared.capture.error(prepared.subject.as_str()).unwrap_or_else(|| CallError::TimedOut {
                subject: prepared.subject.to_string(),
                after: until.saturating_duration_since(started),
                sent: prepared.sent.load(Ordering::Relaxed),
            })
        };
        // A timeout polls once before it looks at the time.
        if until <= started {
            return Err(timed_out());
        }
        tokio::time::timeout_at(until.into(), call).await.map_err(|_| timed_out())?
    }

    fn is_worth_another(&self, error: &CallError, patient: bool) -> bool {
        match error {
            CallError::NoResponders { .. } => patient,
            CallError::Disconnected => self.wait_for_ready,
            CallError::ConnectionLost { .. } => self.idempotent && self.budget.withdraw(),
            CallError::Remote(error) => {
                self.idempotent && error.code() == Some(Code::Unavailable) && self.budget.withdraw()
            }
            _ => false,
        }
    }

    /// Publishes an event to `subject` and does not wait for anybody.
    ///
    /// The event is handed to the connection, at most once: a server that goes down may take it along, and one
    /// that forbids it says so in the log alone.
    ///
    /// # Errors
    /// [`CallError::Disconnected`], [`CallError::TimedOut`], [`CallError::Invalid`] and
    /// [`CallError::TooLarge`], as for [`send`](Self::send).
    pub async fn emit(&self, subject: impl AsRef<str>, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let subject = subject.as_ref();
        observed(subject, true, self.publish(subject, data)).await
    }

    async fn publish(&self, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let Prepared { subject, headers, payload, .. } = self.prepare_with::<()>(subject, data, None)?;
        let started = Instant::now();
        let after = self.deadline(started, self.timeout).saturating_duration_since(started);
        let published = async {
            let mut headers = headers.into_nats();
            trace::inject(&mut headers);
            let mut backoff = Backoff::default();
            loop {
                self.ready().await?;
                self.check_size(&headers, &payload)?;
                let nats = self.connection.nats();
                let (to, payload) = (subject.clone().into_nats(), payload.clone());
                let published = match headers.is_empty() {
                    true => nats.publish(to, payload).await,
                    false => nats.publish_with_headers(to, headers.clone(), payload).await,
                };
                if published.is_ok() {
                    return Ok(());
                }
                // The client of async-nats has died, and has taken nothing.
                if !self.wait_for_ready {
                    return Err(CallError::Disconnected);
                }
                backoff.pause().await;
            }
        };
        // What was taken by the connection has ended the wait.
        let timed_out = || CallError::TimedOut { subject: subject.to_string(), after, sent: false };
        // A timeout polls once before it looks at the time.
        if after.is_zero() {
            return Err(timed_out());
        }
        tokio::time::timeout(after, published).await.map_err(|_| timed_out())?
    }

    /// Makes everything of a call for an `R` that can be wrong before it is sent.
    pub(super) fn prepare<R: DeserializeOwned>(
        &self,
        subject: &str,
        data: &(impl Serialize + ?Sized),
    ) -> Result<Prepared, CallError> {
        self.prepare_with::<R>(subject, data, self.nest.then(nest::new_id))
    }

    fn prepare_with<R: DeserializeOwned>(
        &self,
        subject: &str,
        data: &(impl Serialize + ?Sized),
        id: Option<String>,
    ) -> Result<Prepared, CallError> {
        let target = match self.nest {
            true => Some(Target::new(subject)?),
            false => None,
        };
        let subject = match &target {
            Some(target) => target.subject.clone(),
            None => Subject::new(subject).map_err(|error| CallError::Invalid(error.to_string()))?,
        };
        let headers = self.headers.clone()?;
        let payload = serde_json::to_vec(data).map_err(|error| {
            CallError::Invalid(format!("the data cannot be written as JSON: {}", unwritable(&error)))
        })?;
        let payload = match target {
            Some(target) => target.envelope(&payload, id.as_deref()),
            None => payload,
        };
        let capture = Arc::new(Capture::of::<R>());
        Ok(Prepared { subject, headers, payload: payload.into(), id, capture, sent: AtomicBool::new(false) })
    }

    /// The end of a call that began at `started` and has `timeout`, or what is left to the handler that makes it.
    pub(super) fn deadline(&self, started: Instant, timeout: Duration) -> Instant {
        let own = started + timeout.min(LONGEST);
        deadline::current().map_or(own, |inherited| inherited.min(own))
    }

    /// Refuses what the server would: a message with its headers counts.
    fn check_size(&self, headers: &HeaderMap, payload: &[u8]) -> Result<(), CallError> {
        let max = self.connection.nats().max_payload();
        match written_size(headers) + payload.len() {
            size if size > max => Err(CallError::TooLarge { size, max }),
            _ => Ok(()),
        }
    }

    /// Fails fast while there is no connection, or waits for one.
    async fn ready(&self) -> Result<(), CallError> {
        let is_up = |state: &ConnectionState| matches!(state, ConnectionState::Connected | ConnectionState::LameDuck);
        if !is_up(&self.connection.state()) {
            if !self.wait_for_ready {
                return Err(CallError::Disconnected);
            }
            self.connection.wait_for(is_up).await;
        }
        Ok(())
    }
}

/// The value of an answer that has one or none; it is the last, or is followed by a message that says so.
async fn only(mut answer: Receiver) -> Result<Bytes, CallError> {
    let Some(value) = answer.next().await else { return Ok(Bytes::from_static(b"null")) };
    let value = value?;
    match answer.next().await {
        None => Ok(value),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => Err(answer.broken("the handler answers with several values: call it with `stream`")),
    }
}

/// What headers take on the wire: `NATS/1.0` and an empty line, and `name: value` for each of them.
fn written_size(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines = headers.iter().flat_map(|(name, values)| {
        let name = AsRef::<str>::as_ref(name).len();
        values.iter().map(move |value| name + ": \r\n".len() + value.as_str().len())
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}
