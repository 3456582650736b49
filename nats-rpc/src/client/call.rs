//! Calls with a single reply, and events.

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

/// A prepared call, which can be sent several times.
pub(super) struct Prepared {
    pub(super) subject: Subject,
    headers: Headers,
    pub(super) payload: Bytes,
    /// The id of a call in the NestJS dialect.
    id: Option<String>,
    /// The treatment of acknowledgements of a stream that captures the subject.
    pub(super) capture: Arc<Capture>,
    /// Is `true` once the connection has accepted an attempt.
    pub(super) sent: AtomicBool,
}

impl Client {
    /// Calls the handler of `subject` and waits for its reply.
    ///
    /// # Errors
    /// - [`CallError::Remote`]: the handler replied with an error.
    /// - [`CallError::NoResponders`]: `subject` had no responders within the [no-responders
    ///   timeout](Self::no_responders_timeout); nothing was executed.
    /// - [`CallError::CapturedByStream`]: the only message received was the acknowledgement of a JetStream stream that
    ///   captures `subject`; the call may have executed.
    /// - [`CallError::TimedOut`], [`CallError::ConnectionLost`]: no reply arrived; the call may have executed, unless
    ///   the former states that it was not sent.
    /// - [`CallError::Disconnected`]: there is no connection now; nothing was sent. A client with
    ///   [`wait_for_ready`](Self::wait_for_ready) never returns it.
    /// - [`CallError::Forbidden`]: this user may not publish to `subject`; nothing was executed.
    /// - [`CallError::InboxForbidden`]: this user may not subscribe to its inbox, so it cannot receive the reply; the
    ///   call may have executed.
    /// - [`CallError::Invalid`], [`CallError::TooLarge`]: the call cannot be sent in this form.
    /// - [`CallError::Decode`]: the reply is not an `R`.
    /// - [`CallError::IncompleteResponse`]: a [NestJS](Self::nest) service replied with several values.
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
            // The overall deadline ends the call, so there is no limit per item.
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

    /// Sends a call that may have several replies.
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

    /// Retries a call until it succeeds, fails permanently, or reaches its deadline.
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
        // Some time is reserved for reporting `NoResponders`: "may have executed" would be wrong.
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
        // A timeout polls its future once before it checks the time.
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

    /// Publishes an event to `subject` without waiting for any receiver.
    ///
    /// The event is handed to the connection and delivered at most once. A server that fails may lose it. If the
    /// server forbids it, the error appears only in the log.
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
                // The async-nats client has ended without accepting anything.
                if !self.wait_for_ready {
                    return Err(CallError::Disconnected);
                }
                backoff.pause().await;
            }
        };
        // The wait ends when the connection accepts the event, so an event that timed out was not sent.
        let timed_out = || CallError::TimedOut { subject: subject.to_string(), after, sent: false };
        // A timeout polls its future once before it checks the time.
        if after.is_zero() {
            return Err(timed_out());
        }
        tokio::time::timeout(after, published).await.map_err(|_| timed_out())?
    }

    /// Builds a call for an `R`, with all validation that is possible before it is sent.
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

    /// Returns the deadline of a call that began at `started`: after `timeout`, or at the deadline of the handler that
    /// makes the call.
    pub(super) fn deadline(&self, started: Instant, timeout: Duration) -> Instant {
        let own = started + timeout.min(LONGEST);
        deadline::current().map_or(own, |inherited| inherited.min(own))
    }

    /// Rejects a message that the server would reject: the limit covers headers and payload together.
    fn check_size(&self, headers: &HeaderMap, payload: &[u8]) -> Result<(), CallError> {
        let max = self.connection.nats().max_payload();
        match written_size(headers) + payload.len() {
            size if size > max => Err(CallError::TooLarge { size, max }),
            _ => Ok(()),
        }
    }

    /// Fails immediately while there is no connection, or waits for one if the client is configured so.
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

/// Returns the value of a reply that has one value or none. The value is the last message, or an end message follows
/// it.
async fn only(mut answer: Receiver) -> Result<Bytes, CallError> {
    let Some(value) = answer.next().await else { return Ok(Bytes::from_static(b"null")) };
    let value = value?;
    match answer.next().await {
        None => Ok(value),
        Some(Err(error)) => Err(error),
        Some(Ok(_)) => Err(answer.broken("the handler answers with several values: call it with `stream`")),
    }
}

/// Returns the size of the headers on the wire: `NATS/1.0`, an empty line, and `name: value` for each header.
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
