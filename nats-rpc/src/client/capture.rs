//! Requests that a JetStream stream captures.
//!
//! A stream whose subjects include the subject of a request acknowledges the request. That acknowledgement is the
//! first message that the call receives.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_nats::Message;
use serde::de::DeserializeOwned;

use super::error::CallError;
use crate::log_limit::LogLimit;
use crate::wire::publish_ack;

/// The treatment of publish acknowledgements by one call.
pub(super) struct Capture {
    /// Recognizes acknowledgements that the reply type of the call is meant for.
    takes: fn(&[u8]) -> bool,
    /// The stream whose acknowledgement was skipped.
    stream: OnceLock<String>,
}

impl Capture {
    /// Creates the state for a call whose reply is an `R`.
    pub(super) fn of<R: DeserializeOwned>() -> Self {
        Self { takes: is_acknowledgement::<R>, stream: OnceLock::new() }
    }

    /// Returns `true` if `message` is an acknowledgement instead of the reply: the call then waits for another
    /// message.
    pub(super) fn holds_back(&self, message: &Message) -> bool {
        // Replies with this shape from services of this crate carry a header.
        let stream = if message.headers.is_none() { publish_ack::stream_of(&message.payload) } else { None };
        match stream {
            Some(stream) if !(self.takes)(&message.payload) => {
                // A second stream may capture the subject too; the error names only the first.
                let _ = self.stream.set(Cow::into_owned(stream));
                true
            }
            _ => false,
        }
    }

    /// Returns the error of a call to `subject` that received only an acknowledgement.
    pub(super) fn error(&self, subject: &str) -> Option<CallError> {
        let stream = self.stream.get()?.clone();
        Some(CallError::CapturedByStream { subject: subject.to_owned(), stream })
    }
}

/// Returns `true` if `R` is a type for acknowledgements: it deserializes this one, and none without `stream` or `seq`.
fn is_acknowledgement<R: DeserializeOwned>(body: &[u8]) -> bool {
    let takes = |body: &[u8]| serde_json::from_slice::<R>(body).is_ok();
    takes(body) && !takes(br#"{"stream":"S"}"#) && !takes(br#"{"seq":1}"#)
}

/// The warnings of one client.
pub(super) struct Warnings(LogLimit);

impl Default for Warnings {
    fn default() -> Self {
        Self(LogLimit::once_a(Duration::from_secs(60)))
    }
}

impl Warnings {
    pub(super) fn warn(&self, subject: &str, capture: &Capture) {
        if let (Some(stream), Some(requests)) = (capture.stream.get(), self.0.note(Instant::now())) {
            tracing::warn!(
                subject,
                stream,
                requests,
                "a JetStream stream captures the subject of a request and acknowledges it: take the subject out of the \
                 stream, or create the stream with `no_ack`"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    fn message(body: &'static str, headers: Option<async_nats::HeaderMap>) -> Message {
        Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: body.into(),
            headers,
            status: None,
            description: None,
            length: 0,
        }
    }

    const ACK: &str = r#"{"stream":"AUDIT","seq":1}"#;

    #[derive(Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct WithDefaults {
        _name: String,
    }

    #[derive(Deserialize)]
    struct Required {
        _name: String,
    }

    #[derive(Deserialize)]
    struct OwnAck {
        #[serde(rename = "stream")]
        _stream: String,
        #[serde(rename = "seq")]
        _seq: u64,
    }

    #[test]
    fn acknowledgements_are_held_back_from_other_types() {
        fn held<R: DeserializeOwned>() -> bool {
            Capture::of::<R>().holds_back(&message(ACK, None))
        }
        assert!(held::<Value>() && held::<WithDefaults>() && held::<Required>() && held::<()>());
        assert!(held::<std::collections::HashMap<String, Value>>() && held::<Option<WithDefaults>>());
        assert!(!held::<OwnAck>() && !held::<Option<OwnAck>>());
        assert!(!held::<async_nats::jetstream::publish::PublishAck>());
    }

    #[test]
    fn marked_replies_and_other_bodies_pass() {
        let capture = Capture::of::<Value>();
        assert!(!capture.holds_back(&message(ACK, publish_ack::told_apart(ACK.as_bytes()))));
        assert!(!capture.holds_back(&message(r#"{"stream":"AUDIT","seq":1,"more":1}"#, None)));
        assert!(capture.error("a").is_none());
        assert!(capture.holds_back(&message(ACK, None)));
        let Some(CallError::CapturedByStream { stream, .. }) = capture.error("a") else { panic!("no error") };
        assert_eq!(stream, "AUDIT");
    }
}
