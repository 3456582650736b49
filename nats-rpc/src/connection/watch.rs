use std::time::Instant;

use async_nats::{Event, ServerError};
use tokio::sync::{Notify, broadcast, watch};

use super::overflow::Overflow;
use super::unreadable::Unreadable;
use crate::log_limit::LogLimit;
use crate::metrics;

/// The number of violations buffered for a lagging receiver.
const KEPT_VIOLATIONS: usize = 256;

/// The state of a connection as async-nats reports it; only an echo proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// The connection to the server is up.
    Connected,
    /// The connection is down; async-nats keeps trying.
    Disconnected,
    /// The server will shut down soon, and disconnects its clients one by one until then. It serves existing
    /// connections until the last moment, and accepts no new ones. This connection stays as long as it can, and then
    /// moves to another server, or to the restarted one.
    LameDuck,
    /// The connection has ended for good. This state does not occur at present: a connection that has ended is
    /// replaced.
    Closed,
}

/// A permission violation reported by nats-server.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) publish: bool,
    pub(crate) subject: String,
}

/// The state of one connection, with ways to wait for changes.
///
/// The events of async-nats come through a bounded channel that drops events when it is full. Therefore they only make
/// the [keeper](super::keeper) check the client, and the state is what the keeper observes. Information that only an
/// event carries can be lost.
pub(super) struct Watch {
    events: Notify,
    state: watch::Sender<ConnectionState>,
    /// The number of connection breaks. The state alone would not show a break that is already over.
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
            // The keeper checks the client.
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
                    // Sending fails only without receivers, and then no request is waiting.
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

    /// Waits for the next event; returns at once if one came since the last call.
    pub(super) async fn event(&self) {
        self.events.notified().await;
    }

    pub(super) fn connected(&self) {
        metrics::connection_is_up(true);
        if self.state.send_replace(ConnectionState::Connected) != ConnectionState::Connected {
            tracing::info!("connected to nats-server");
        }
    }

    /// Records that the async-nats client has ended; `message` is logged.
    pub(super) fn died(&self, message: &str) {
        if self.deaths.note(Instant::now()).is_some() {
            tracing::error!("{message}");
        }
        self.end();
    }

    /// Records that another client has replaced it.
    pub(super) fn renewed(&self, generation: u64) {
        self.connected();
        self.generation.send_replace(generation);
    }

    /// Records that the connection broke; async-nats reconnects.
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

    /// Makes all waiters check the state again.
    pub(super) fn looked(&self) {
        self.state.send_modify(|_| {});
    }

    /// Counts a message that a filter has replaced.
    pub(super) fn unreadable(&self) {
        self.unreadable.note(Instant::now());
    }

    /// Returns how many messages a filter has replaced.
    pub(super) fn replaced(&self) -> u64 {
        self.unreadable.replaced()
    }

    /// Logs that a relay could not forward a connection; async-nats tries again.
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
        // `self` owns the sender, so it cannot be closed.
        let _ = self.generation.subscribe().wait_for(|now| *now > generation).await;
    }

    pub(super) fn state(&self) -> ConnectionState {
        *self.state.borrow()
    }

    /// Returns a receiver that changes with each check of the keeper.
    pub(super) fn states(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    /// Returns how many messages were dropped because a subscription was full.
    pub(super) fn dropped(&self) -> u64 {
        self.overflow.dropped()
    }

    pub(super) fn violations(&self) -> broadcast::Receiver<Violation> {
        self.violations.subscribe()
    }
}

/// Parses `Permissions Violation for Publish to "a.b"` and its counterpart for subscriptions.
fn violation(text: &str) -> Option<Violation> {
    // The server puts the whole text in single quotes. A subject may end with one too, but is in double quotes.
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
            // A byte that is not UTF-8 by itself.
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
