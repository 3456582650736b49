use std::time::Instant;

use async_nats::{Event, ServerError};
use tokio::sync::{Notify, broadcast, watch};

use super::overflow::Overflow;
use super::unreadable::Unreadable;
use crate::log_limit::LogLimit;
use crate::metrics;

/// Violations kept for a reader that is late.
const KEPT_VIOLATIONS: usize = 256;

/// What async-nats says of a connection; only an echo proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The server answers.
    Connected,
    /// It does not; async-nats keeps trying.
    Disconnected,
    /// It will shut down soon, and hang up on its clients one by one until then. It serves as before to the
    /// last moment, and takes no new connection: this one stays as long as it can, and then goes to another
    /// server, or to this one's successor.
    LameDuck,
    /// The connection has ended for good. None does at present: one that ended is replaced.
    Closed,
}

/// Something that this connection may not do.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) publish: bool,
    pub(crate) subject: String,
}

/// The state of one connection, for those who wait for it.
///
/// The events of async-nats come through a bounded channel that drops what does not fit in. So they tell the
/// [keeper](super::keeper) to look, and what it sees is the state. Whatever is known from an event alone can be missed.
pub(super) struct Watch {
    events: Notify,
    state: watch::Sender<ConnectionState>,
    /// How often the connection broke. A state alone would not tell of a break that is over already.
    breaks: watch::Sender<u64>,
    generation: watch::Sender<u64>,
    violations: broadcast::Sender<Violation>,
    overflow: Overflow,
    unreadable: Unreadable,
    deaths: LogLimit,
    relay_failures: LogLimit,
}

impl Default for Watch {
    fn default() -> Self {
        let violations = broadcast::Sender::new(KEPT_VIOLATIONS);
        Self {
            events: Notify::new(),
            state: watch::Sender::new(ConnectionState::Disconnected),
            breaks: watch::Sender::new(0),
            generation: watch::Sender::new(0),
            violations,
            overflow: Overflow::default(),
            unreadable: Unreadable::default(),
            deaths: LogLimit::default(),
            relay_failures: LogLimit::default(),
        }
    }
}

impl Watch {
    pub(super) fn see(&self, event: Event) {
        match event {
            // The keeper looks.
            Event::Connected | Event::Disconnected | Event::Draining | Event::Closed => {}
            Event::LameDuckMode => {
                tracing::warn!("nats-server is about to shut down");
                self.state.send_replace(ConnectionState::LameDuck);
            }
            Event::ServerError(ServerError::Other(text)) => match violation(&text) {
                Some(violation) => {
                    let verb = if violation.publish { "publish to" } else { "subscribe to" };
                    tracing::error!(
                        subject = violation.subject,
                        "nats-server forbids this connection to {verb} a subject"
                    );
                    // Fails only where nobody listens, and then nobody waits for an answer.
                    let _ = self.violations.send(violation);
                }
                None => tracing::error!(error = text, "nats-server reported an error"),
            },
            Event::SlowConsumer(sid) => {
                metrics::messages_dropped();
                self.overflow.note(sid, Instant::now());
            }
            other => tracing::warn!(event = %other, "connection event"),
        }
        self.events.notify_one();
    }

    /// Waits for the next event, or returns at once if one came since the last time.
    pub(super) async fn event(&self) {
        self.events.notified().await;
    }

    pub(super) fn connected(&self) {
        metrics::connection_is_up(true);
        if self.state.send_replace(ConnectionState::Connected) != ConnectionState::Connected {
            tracing::info!("connected to nats-server");
        }
    }

    /// The client of async-nats has ended; `message` says so in the log.
    pub(super) fn died(&self, message: &str) {
        if self.deaths.note(Instant::now()).is_some() {
            tracing::error!("{message}");
        }
        self.end();
    }

    /// Another client is in its place.
    pub(super) fn renewed(&self, generation: u64) {
        self.connected();
        self.generation.send_replace(generation);
    }

    /// The connection broke; async-nats makes another one.
    pub(super) fn broken(&self) {
        tracing::warn!("nats-server is gone; reconnecting");
        self.end();
    }

    fn end(&self) {
        metrics::connection_is_up(false);
        metrics::connection_lost();
        self.state.send_replace(ConnectionState::Disconnected);
        self.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Has those who wait for a state look for themselves.
    pub(super) fn looked(&self) {
        self.state.send_modify(|_| {});
    }

    /// A filter has replaced a message.
    pub(super) fn unreadable(&self) {
        self.unreadable.note(Instant::now());
    }

    /// How many messages a filter has replaced.
    pub(super) fn replaced(&self) -> u64 {
        self.unreadable.replaced()
    }

    /// A relay could not pass a connection on; async-nats tries again.
    pub(super) fn relay_failed(&self, error: &std::io::Error) {
        if self.relay_failures.note(Instant::now()).is_some() {
            tracing::warn!(%error, "the header filter does not reach nats-server");
        }
    }

    pub(super) fn breaks(&self) -> watch::Receiver<u64> {
        self.breaks.subscribe()
    }

    /// Waits for a client newer than that of `generation`.
    pub(super) async fn renewal(&self, generation: u64) {
        // The sender is `self`, so it cannot be gone.
        let _ = self.generation.subscribe().wait_for(|now| *now > generation).await;
    }

    pub(super) fn state(&self) -> ConnectionState {
        *self.state.borrow()
    }

    /// Changes with each look of the keeper.
    pub(super) fn states(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// How many messages were dropped because a subscription was full.
    pub(super) fn dropped(&self) -> u64 {
        self.overflow.dropped()
    }

    pub(super) fn violations(&self) -> broadcast::Receiver<Violation> {
        self.violations.subscribe()
    }
}

/// Reads `Permissions Violation for Publish to "a.b"` and its sibling for subscriptions.
fn violation(text: &str) -> Option<Violation> {
    // The server puts the whole text in single quotes; a subject may end with one too, but stands in double quotes.
    let text = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')).unwrap_or(text);
    let rest = strip_prefix_ignoring_case(text, "Permissions Violation for ")?;
    let (kind, rest) = rest.split_once(" to \"")?;
    let subject = unquote(rest);
    Some(Violation { publish: kind.eq_ignore_ascii_case("Publish"), subject })
}

/// Returns the text up to the closing quote, as Go's `%q` wrote it: escapes are `\"`, `\\`, `\xNN`, `\uNNNN`,
/// `\UNNNNNNNN` and those of control characters. An escape that is none of them stays as it is.
fn unquote(quoted: &str) -> String {
    let mut bytes = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    loop {
        let end = rest.find(['"', '\\']).unwrap_or(rest.len());
        bytes.extend_from_slice(&rest.as_bytes()[..end]);
        let Some(escape) = rest[end..].strip_prefix('\\') else { break };
        let kind = escape.chars().next().unwrap_or_default();
        let digits = match kind {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let code = escape.get(1..=digits).and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let read = match (kind, code) {
            ('"' | '\\', _) => Some(vec![kind as u8]),
            ('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v', _) => {
                CONTROLS.iter().find(|(c, _)| *c == kind).map(|c| vec![c.1])
            }
            // A byte that is no UTF-8 by itself.
            ('x', Some(code)) => u8::try_from(code).ok().map(|byte| vec![byte]),
            ('u' | 'U', Some(code)) => char::from_u32(code).map(|c| c.to_string().into_bytes()),
            _ => None,
        };
        match read {
            Some(read) => {
                bytes.extend_from_slice(&read);
                rest = &escape[kind.len_utf8() + digits..];
            }
            None => {
                bytes.push(b'\\');
                rest = escape;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Go's names of control characters.
const CONTROLS: [(char, u8); 7] = [('a', 7), ('b', 8), ('f', 12), ('n', b'\n'), ('r', b'\r'), ('t', b'\t'), ('v', 11)];

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_tells_what_was_forbidden() {
        let publish = violation("Permissions Violation for Publish to \"a.b\"").unwrap();
        assert!(publish.publish && publish.subject == "a.b");
        let subscribe = violation("'Permissions Violation for Subscription to \"x\" using queue \"q\"'").unwrap();
        assert!(!subscribe.publish && subscribe.subject == "x");
        assert!(violation("Maximum Payload Violation").is_none());
    }

    #[test]
    fn forbidden_subject_is_unquoted() {
        let subject = |quoted: &str| {
            let text = format!("'Permissions Violation for Subscription to \"{quoted}\" using queue \"q\"'");
            violation(&text).unwrap().subject
        };
        assert_eq!(subject(r#"{\"cmd\":\"sum\"}"#), r#"{"cmd":"sum"}"#);
        assert_eq!(subject(r#"a\\b\"c"#), r#"a\b"c"#);
        assert_eq!(subject(r"gr\u00fc\u00dfe.\U0001f600.\x7f"), "grüße.😀.\u{7f}");
        assert_eq!(subject(r"\xc3\xbc"), "ü");
        assert_eq!(subject(r"a\tb\q\x1"), "a\tb\\q\\x1");
        assert_eq!(subject("it's"), "it's");
    }

    #[test]
    fn unfinished_text_is_read_to_its_end() {
        for text in ["a\\", "a\\x", "a\\u12", "", "\\ü"] {
            assert_eq!(violation(&format!("Permissions Violation for Publish to \"{text}")).unwrap().subject, text);
        }
    }
}
