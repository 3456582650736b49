//! The frames of a stream in the native wire format; `docs/wire.md` specifies the protocol.

use std::fmt;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};

/// The header that marks a message as a frame.
pub(crate) const STREAM_HEADER: &str = "Rpc-Stream";
static STREAM: HeaderName = HeaderName::from_static(STREAM_HEADER);

/// The header with the id of the service instance that sends a frame.
static INSTANCE: HeaderName = HeaderName::from_static("Rpc-Instance");

/// The keyword of [`Frame::Ping`] that this version sends, and the one that later versions send. A receiver of an
/// older version mistakes an unknown frame for the only reply. So no version may send `ping` before all receivers
/// accept it.
const PING: &str = "ask";
const LATER_PING: &str = "ping";

/// The maximum number of items that a caller may grant beyond those already sent.
pub(crate) const MAX_WINDOW: u64 = 1_024;

/// The content of a frame header: a keyword and, after a space, a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// In a request: the caller accepts a stream, and initially this many items.
    Open(u64),
    /// An item; its number counts from 1.
    Item(u64),
    /// Checks that the caller is still connected. This many items were sent.
    Ping(u64),
    /// The end of the items; it counts as one.
    End(u64),
    /// An error that ends the stream; it counts as an item.
    Error(u64),
    /// From the caller: the total number of items that may be sent.
    Credit(u64),
    /// From the caller: it accepts no more items.
    Cancel,
}

impl Frame {
    /// Returns the frame of a message, if it is one.
    pub(crate) fn of(headers: Option<&HeaderMap>) -> Option<Self> {
        Self::parse(headers?.get(STREAM.clone())?.as_str())
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (word, number) = match text.split_once(' ') {
            Some((word, number)) => (word, Some(number)),
            None => (text, None),
        };
        if number.is_some_and(|digits| !digits.bytes().all(|byte| byte.is_ascii_digit())) {
            // `parse` would accept a sign.
            return None;
        }
        let number = number.map(|digits| digits.parse().ok());
        match (word, number) {
            ("open", Some(Some(window @ 1..))) => Some(Self::Open(window)),
            ("item", Some(Some(count @ 1..))) => Some(Self::Item(count)),
            (PING | LATER_PING, Some(Some(count))) => Some(Self::Ping(count)),
            ("end", Some(Some(count @ 1..))) => Some(Self::End(count)),
            ("error", Some(Some(count @ 1..))) => Some(Self::Error(count)),
            ("credit", Some(Some(total))) => Some(Self::Credit(total)),
            ("cancel", None) => Some(Self::Cancel),
            _ => None,
        }
    }

    /// Adds the header of the frame.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(STREAM.clone(), HeaderValue::from(self.to_string()));
    }

    pub(crate) fn headers(self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.write(&mut headers);
        headers
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(window) => write!(f, "open {window}"),
            Self::Item(count) => write!(f, "item {count}"),
            Self::Ping(count) => write!(f, "{PING} {count}"),
            Self::End(count) => write!(f, "end {count}"),
            Self::Error(count) => write!(f, "error {count}"),
            Self::Credit(total) => write!(f, "credit {total}"),
            Self::Cancel => f.write_str("cancel"),
        }
    }
}

/// Returns the number of items that a request initially accepts, from its header [`STREAM_HEADER`].
///
/// # Errors
/// If the header has any other content.
pub(crate) fn window(header: &str) -> Result<u64, ()> {
    match Frame::parse(header) {
        Some(Frame::Open(window)) => Ok(window.min(MAX_WINDOW)),
        _ => Err(()),
    }
}

/// Adds the id of the instance that sends a frame.
pub(crate) fn write_instance(headers: &mut HeaderMap, instance: &HeaderValue) {
    headers.insert(INSTANCE.clone(), instance.clone());
}

/// The service instance that sent a frame.
///
/// The reply subject of a frame does not identify it: nats-server gives each frame another one when a request crosses
/// accounts. Frames of older versions have no id. Their reply subject is the same for the whole stream, because they
/// cannot cross accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Instance(HeaderValue),
    Address(Option<Subject>),
}

impl Sender {
    pub(crate) fn of(headers: Option<&HeaderMap>, reply: Option<&Subject>) -> Self {
        match headers.and_then(|headers| headers.get(INSTANCE.clone())) {
            Some(instance) => Self::Instance(instance.clone()),
            None => Self::Address(reply.cloned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame() -> impl Strategy<Value = Frame> {
        let made = |make: fn(u64) -> Frame| (1..=u64::MAX).prop_map(make);
        prop_oneof![
            made(Frame::Open),
            made(Frame::Item),
            any::<u64>().prop_map(Frame::Ping),
            made(Frame::End),
            made(Frame::Error),
            any::<u64>().prop_map(Frame::Credit),
            Just(Frame::Cancel),
        ]
    }

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_written(frame in frame()) {
            prop_assert_eq!(Frame::of(Some(&frame.headers())), Some(frame));
        }

        #[test]
        fn no_text_is_read_as_anything_but_what_it_says(
            text in "(open|item|ask|ping|end|error|credit|cancel|ITEM| )?[ +-]{0,2}[0-9]{0,21} ?|.{0,12}",
        ) {
            if let Some(frame) = Frame::parse(&text) {
                let written = frame.to_string();
                // Leading zeros do not change the number.
                let (word, number) = text.split_once(' ').unwrap_or((&text, ""));
                let word = if word == LATER_PING { PING } else { word };
                let number = number.trim_start_matches('0');
                let number = if number.is_empty() && frame != Frame::Cancel { "0" } else { number };
                let said = format!("{word} {number}");
                prop_assert_eq!(written, said.trim_end());
            }
        }
    }

    #[test]
    fn a_request_opens_its_stream_with_no_more_than_the_widest_window() {
        assert_eq!(window("open 1"), Ok(1));
        assert_eq!(window("open 1024"), Ok(1_024));
        assert_eq!(window("open 1025"), Ok(1_024));
        for other in ["open", "open 0", "item 3", "cancel", ""] {
            assert_eq!(window(other), Err(()), "{other:?}");
        }
    }

    #[test]
    fn ping_has_two_words_for_one_version() {
        assert_eq!(Frame::parse("ask 7"), Some(Frame::Ping(7)));
        assert_eq!(Frame::parse("ping 7"), Some(Frame::Ping(7)));
        assert_eq!(Frame::Ping(7).to_string(), "ask 7", "receivers of the version before know no other word");
    }

    #[test]
    fn the_instance_tells_senders_apart_and_else_the_address() {
        let headers = |instance: &str| {
            let mut headers = Frame::Item(1).headers();
            write_instance(&mut headers, &HeaderValue::from(instance));
            headers
        };
        let [here, there] = ["_R_.a.1", "_R_.a.2"].map(Subject::from);
        let of = |instance: Option<&str>, reply: &Subject| Sender::of(instance.map(headers).as_ref(), Some(reply));
        assert_eq!(of(Some("a"), &here), of(Some("a"), &there));
        assert_ne!(of(Some("a"), &here), of(Some("b"), &here));
        assert_eq!(of(None, &here), of(None, &here));
        assert_ne!(of(None, &here), of(None, &there));
        assert_ne!(of(None, &here), of(Some("a"), &here));
    }

    #[test]
    fn what_is_no_frame_is_none() {
        for text in ["", "item", "item ", "item 0", "item -1", "item +1", "item 1 ", "Item 1", "open 0", "cancel 1"] {
            assert_eq!(Frame::parse(text), None, "{text:?}");
        }
        assert_eq!(Frame::parse("item 18446744073709551616"), None, "more than a u64");
        assert_eq!(Frame::of(None), None);
    }
}
