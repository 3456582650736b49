//! The valid request, from which the attacks are derived.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::wire::{Message, header_block};

/// A number and a text that no valid request contains. They are sent as secrets, and as values of the wrong type.
pub(super) const CANARY_NUMBER: u64 = 314_159_265_358_979;
pub(super) const CANARY_TEXT: &str = "attacks-canary-27182818";

/// An id in NestJS's format: 21 hexadecimal digits.
pub(super) const NEST_ID: &str = "88a5f0d6ac4d1830655c1";

/// The valid request of a run.
pub(super) struct Target {
    pub(super) subject: String,
    /// JSON.
    pub(super) payload: String,
    pub(super) headers: Vec<(String, String)>,
    /// The access token, if the handler is guarded.
    pub(super) token: Option<String>,
    /// `true` if the service understands the envelopes of NestJS.
    pub(super) speaks_nest: bool,
    pub(super) max_payload: usize,
    pub(super) inboxes: AtomicU32,
}

impl Target {
    /// Returns the valid request, without a reply subject.
    pub(super) fn request(&self) -> Message {
        self.with_payload(self.payload.as_bytes())
    }

    /// Returns the valid request with another payload.
    pub(super) fn with_payload(&self, payload: &[u8]) -> Message {
        self.with_lines(self.header_lines(), payload)
    }

    /// Returns the valid request with one more header line.
    pub(super) fn with_header(&self, line: &str) -> Message {
        self.with_lines(self.header_lines().chain([line.to_owned()]), self.payload.as_bytes())
    }

    /// Returns the valid request with `tokens` instead of its token.
    pub(super) fn with_tokens(&self, tokens: &[&str], payload: &[u8]) -> Message {
        self.with_lines(self.other_lines().chain(tokens.iter().map(|token| bearer(token))), payload)
    }

    /// Returns the valid request as an envelope of NestJS with the members `members`.
    pub(super) fn envelope(&self, members: &str) -> Message {
        self.with_payload(format!("{{{members}}}").as_bytes())
    }

    /// Returns `"pattern":<the subject>`.
    pub(super) fn pattern_member(&self) -> String {
        format!(r#""pattern":{}"#, Value::from(self.subject.as_str()))
    }

    /// Returns `"data":<the payload>`.
    pub(super) fn data_member(&self) -> String {
        format!(r#""data":{}"#, self.payload)
    }

    /// Returns a subject in the inbox of the suite that no other request uses.
    pub(super) fn inbox(&self) -> String {
        format!("_INBOX.attacks.{}", self.inboxes.fetch_add(1, Ordering::Relaxed))
    }

    fn other_lines(&self) -> impl Iterator<Item = String> {
        self.headers.iter().map(|(name, value)| format!("{name}: {value}"))
    }

    fn header_lines(&self) -> impl Iterator<Item = String> {
        self.other_lines().chain(self.token.as_deref().map(bearer))
    }

    fn with_lines(&self, lines: impl Iterator<Item = String>, payload: &[u8]) -> Message {
        let mut lines = lines.peekable();
        let headers = if lines.peek().is_some() { header_block(lines) } else { Vec::new() };
        Message { subject: self.subject.clone().into_bytes(), headers, payload: payload.to_vec(), ..Message::default() }
    }
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}
