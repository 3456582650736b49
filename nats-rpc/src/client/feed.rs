//! Buffers the messages of one call with several replies until the caller takes them.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use async_nats::{Message, StatusCode};
use bytes::Bytes;

use super::answer::remote_error;
use super::error::CallError;
use super::nest::{self, Answer};
use crate::subject::Subject;
use crate::wire::stream::{Frame, Sender};

/// The maximum number of buffered items in the NestJS dialect, which has no flow control.
const MOST_WAITING: usize = 1_024;

/// The items of one call between the inbox and the caller.
pub(super) struct Feed {
    subject: Subject,
    speech: Speech,
    window: u64,
    state: Mutex<State>,
}

/// The dialect of the replies to a call.
pub(super) enum Speech {
    Native,
    /// NestJS's dialect, with the `id` of the request.
    Nest {
        id: String,
    },
}

struct State {
    items: VecDeque<Bytes>,
    /// The result of the call, once it has ended; the caller takes the buffered items first.
    end: Option<Result<(), CallError>>,
    ended: bool,
    /// Is `true` once the service has sent anything.
    opened: bool,
    /// The instance that replies. Only the first instance that replies is accepted.
    sender: Option<Sender>,
    /// The reply subject of the service, from its last message: nats-server gives each message of a stream that
    /// crosses accounts another reply subject.
    origin: Option<async_nats::Subject>,
    /// The subject of the last frame sent to the service.
    told: Option<async_nats::Subject>,
    received: u64,
    taken: u64,
    granted: u64,
    heard: Instant,
    waker: Option<Waker>,
}

/// A frame to send to a service, with its subject.
pub(super) type Word = (async_nats::Subject, Frame);

/// The consequences of a message.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) ended: bool,
    pub(super) say: Option<Word>,
}

/// The result of an attempt to take an item.
pub(super) enum Taken {
    Item {
        value: Bytes,
        say: Option<Word>,
    },
    End(Result<(), CallError>),
    /// No item yet. If the service has to send liveness messages, `heard` is the time of its last message.
    Nothing {
        heard: Option<Instant>,
    },
}

impl Feed {
    pub(super) fn new(subject: Subject, speech: Speech, window: u64) -> Self {
        let state = State {
            items: VecDeque::new(),
            end: None,
            ended: false,
            opened: false,
            sender: None,
            origin: None,
            told: None,
            received: 0,
            taken: 0,
            granted: window,
            heard: Instant::now(),
            waker: None,
        };
        Self { subject, speech, window, state: Mutex::new(state) }
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Returns `true` if frames for the service go to `subject`.
    pub(super) fn talks_to(&self, subject: &str) -> bool {
        let state = self.lock();
        [&state.origin, &state.told].into_iter().flatten().any(|origin| origin.as_str() == subject)
    }

    /// Returns `true` if the service has replied.
    pub(super) fn is_opened(&self) -> bool {
        self.lock().opened
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Processes a message that arrived for this call.
    pub(super) fn hear(&self, message: Message) -> Heard {
        let mut state = self.lock();
        let origin = state.origin.clone();
        if state.ended {
            return Heard { ended: true, say: None };
        }
        let said = match is_nobody(&message) {
            // A service that has replied exists, so this message comes from another sender.
            true if state.opened => Ok(None),
            true => Err(CallError::NoResponders { subject: self.subject.to_string() }),
            false => match &self.speech {
                Speech::Native => state.hear_native(message),
                Speech::Nest { id } => state.hear_nest(id, message),
            },
        };
        let mut say = None;
        match said {
            Ok(None) => {}
            Ok(Some(Said::Word(word))) => say = Some(word),
            Ok(Some(Said::End)) => state.finish(Ok(())),
            Err(error) => {
                // After a failure on this side, the service can end its stream.
                let broken = matches!(error, CallError::IncompleteResponse { .. } | CallError::Decode(_));
                say = origin.filter(|_| broken).map(|origin| (origin, Frame::Cancel));
                state.finish(Err(self.name(error)));
            }
        }
        state.wake();
        Heard { ended: state.ended, say }
    }

    /// Adds the subject to an error that was created without it.
    fn name(&self, error: CallError) -> CallError {
        match error {
            CallError::IncompleteResponse { why, .. } => {
                CallError::IncompleteResponse { subject: self.subject.to_string(), why }
            }
            error => error,
        }
    }

    /// Ends the call from this side.
    pub(super) fn fail(&self, error: CallError) {
        let mut state = self.lock();
        if !state.ended {
            state.finish(Err(error));
            state.wake();
        }
    }

    /// Returns the result of opening the call once the service has replied: an error reply is the error.
    pub(super) fn opened(&self, cx: &Context<'_>) -> Option<Result<(), CallError>> {
        let mut state = self.lock();
        if state.items.is_empty()
            && let Some(Err(error)) = state.end.take_if(|end| end.is_err())
        {
            return Some(Err(error));
        }
        if state.opened || state.ended {
            return Some(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        None
    }

    /// Takes the next item, or the state if there is none.
    pub(super) fn take(&self, cx: &Context<'_>) -> Taken {
        let mut state = self.lock();
        if let Some(value) = state.items.pop_front() {
            state.taken += 1;
            return Taken::Item { value, say: state.grant(self.window) };
        }
        if state.ended {
            return Taken::End(state.end.take().unwrap_or(Ok(())));
        }
        state.waker = Some(cx.waker().clone());
        let watched = matches!(self.speech, Speech::Native) && state.origin.is_some();
        Taken::Nothing { heard: watched.then_some(state.heard) }
    }

    /// Ends the call because its caller is gone; returns the cancel frame unless the service has already ended the
    /// call.
    pub(super) fn close(&self) -> Option<Word> {
        let mut state = self.lock();
        state.items.clear();
        if std::mem::replace(&mut state.ended, true) {
            return None;
        }
        state.origin.take().map(|origin| (origin, Frame::Cancel))
    }
}

enum Said {
    Word(Word),
    End,
}

impl State {
    fn finish(&mut self, end: Result<(), CallError>) {
        self.end = Some(end);
        self.ended = true;
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Grants new credit once half of the window has been taken.
    fn grant(&mut self, window: u64) -> Option<Word> {
        let origin = self.origin.clone().filter(|_| !self.ended)?;
        let total = self.taken + window;
        if total - self.granted < window.div_ceil(2) {
            return None;
        }
        self.granted = total;
        self.told = Some(origin.clone());
        Some((origin, Frame::Credit(total)))
    }

    fn hear_native(&mut self, message: Message) -> Result<Option<Said>, CallError> {
        let Message { payload, headers, reply, .. } = message;
        let frame = Frame::of(headers.as_ref());
        let sender = Sender::of(headers.as_ref(), reply.as_ref());
        let error = || headers.as_ref().and_then(|headers| remote_error(headers, &payload));
        let Some(frame) = frame else {
            if self.opened {
                // The reply of another instance; only the first instance is accepted.
                return Ok(None);
            }
            // A handler without a stream: its reply is the only item.
            self.opened = true;
            return match error() {
                Some(error) => Err(CallError::Remote(error)),
                None => {
                    self.items.push_back(if payload.is_empty() { Bytes::from_static(b"null") } else { payload });
                    Ok(Some(Said::End))
                }
            };
        };
        // The inbox has removed a reply subject that must not be published to.
        let Some(origin) = reply else {
            return if self.opened { Ok(None) } else { Err(broken(NO_ADDRESS)) };
        };
        if *self.sender.get_or_insert_with(|| sender.clone()) != sender {
            return Ok(Some(Said::Word((origin, Frame::Cancel))));
        }
        self.origin = Some(origin.clone());
        self.opened = true;
        self.heard = Instant::now();
        let expected = self.received + 1;
        match frame {
            Frame::Item(count) if count == expected => {
                if count > self.granted {
                    return Err(broken(format!("item {count} came, and {} were granted", self.granted)));
                }
                self.received = count;
                self.items.push_back(payload);
                Ok(None)
            }
            Frame::Ping(count) if count == self.received => {
                self.told = Some(origin.clone());
                Ok(Some(Said::Word((origin, Frame::Credit(self.granted)))))
            }
            Frame::End(count) if count == expected => Ok(Some(Said::End)),
            Frame::Error(count) if count == expected => {
                Err(error().map_or_else(|| broken("it ended with an error that cannot be read"), CallError::Remote))
            }
            Frame::Item(count) | Frame::End(count) | Frame::Error(count) => {
                Err(broken(format!("message {count} came where {expected} was expected")))
            }
            Frame::Ping(count) => Err(broken(format!("{count} items were sent, and {} came", self.received))),
            // A service never sends these frames.
            Frame::Open(_) | Frame::Credit(_) | Frame::Cancel => Ok(None),
        }
    }

    fn hear_nest(&mut self, id: &str, message: Message) -> Result<Option<Said>, CallError> {
        let Message { payload, headers, reply, .. } = message;
        let answer = nest::read(id, headers.as_ref(), &payload)?;
        if matches!(answer, Answer::Foreign) {
            return Ok(None);
        }
        let sender = Sender::of(headers.as_ref(), reply.as_ref());
        if *self.sender.get_or_insert_with(|| sender.clone()) != sender {
            return Ok(reply.map(|origin| Said::Word((origin, Frame::Cancel))));
        }
        // Services of this crate accept frames from their caller in this dialect too.
        self.origin = reply;
        self.opened = true;
        match answer {
            Answer::Item(_) if self.items.len() >= MOST_WAITING => {
                Err(broken(format!("{MOST_WAITING} items wait to be taken, and NestJS sends on: take them faster")))
            }
            Answer::Item(value) => {
                self.items.push_back(value);
                Ok(None)
            }
            Answer::Last(value) => {
                self.items.push_back(value);
                Ok(Some(Said::End))
            }
            Answer::End => Ok(Some(Said::End)),
            Answer::Error(error) => Err(CallError::Remote(error)),
            Answer::Foreign => Ok(None),
        }
    }
}

const NO_ADDRESS: &str = "its frames name no inbox for credit: set NATS_REPLY_PREFIXES if the service has an inbox \
                          prefix of its own";

/// Creates an error that [`Feed::name`] completes with the subject.
fn broken(why: impl Into<String>) -> CallError {
    CallError::IncompleteResponse { subject: String::new(), why: why.into() }
}

/// Returns `true` if the message is nats-server's no-responders status.
pub(super) fn is_nobody(message: &Message) -> bool {
    message.status == Some(StatusCode::NO_RESPONDERS) && message.payload.is_empty()
}
