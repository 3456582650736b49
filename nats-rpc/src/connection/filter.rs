//! Replaces messages that async-nats cannot read.
//!
//! A bare carriage return in a header value ends the connection task of async-nats 0.51 for good. Other malformed
//! headers make it reconnect. Both lose every message in flight on the connection, so one publisher could make a
//! service unavailable. The filter reads nats-server's bytes before async-nats does, by the same rules.

use std::str::{self, FromStr};

use async_nats::{HeaderName, StatusCode};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// The headers that replace unreadable ones. A client of this crate reads them as an error reply; the status tells a
/// service that the message is not a request.
const UNREADABLE: &str = "NATS/1.0 400 Unreadable Headers\r\nNats-Service-Error: the headers of the message cannot be \
                          read\r\nNats-Service-Error-Code: 500\r\n\r\n";
/// The subjects of records in KV buckets. A watcher that misses a record restarts from the one before, and would never
/// get past it. The filter therefore delivers such a record without a value.
const RECORD: &str = "$KV.";

/// The filter for the bytes of one connection.
#[derive(Default)]
pub(super) struct Filter {
    /// Bytes that the filter has not examined yet.
    input: BytesMut,
    /// Number of the next bytes that belong to a message that passes.
    passing: usize,
    /// Number of the next bytes that belong to a replaced message.
    skipping: usize,
}

/// The first frame of the input.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// The input is too short to decide.
    Partial,
    /// A frame of this length, in bytes, that passes.
    Good(usize),
    /// A message of this length, in bytes, that async-nats cannot read, and its replacement.
    Unreadable(usize, String),
}

/// Bytes that leave the filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Unchanged bytes.
    Passed(Bytes),
    /// The replacement of one message.
    Replaced(Bytes),
}

impl Filter {
    /// Returns the buffer for the bytes read from nats-server.
    pub(super) fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Returns the next bytes for async-nats, as many as the filter can decide on; `None` if it needs more input.
    pub(super) fn next(&mut self) -> Option<Output> {
        self.skip();
        let mut good = 0;
        loop {
            let rest = &self.input[good..];
            let passed = self.passing.min(rest.len());
            self.passing -= passed;
            good += passed;
            if rest.len() == passed {
                break;
            }
            match frame(&rest[passed..]) {
                Frame::Good(length) => self.passing = length,
                Frame::Unreadable(length, replacement) if good == 0 => {
                    self.skipping = length;
                    return Some(Output::Replaced(replacement.into()));
                }
                // The bytes before this frame are returned first.
                Frame::Unreadable(..) | Frame::Partial => break,
            }
        }
        (good > 0).then(|| Output::Passed(self.input.split_to(good).freeze()))
    }

    fn skip(&mut self) {
        let skipped = self.skipping.min(self.input.len());
        self.input.advance(skipped);
        self.skipping -= skipped;
    }
}

fn frame(bytes: &[u8]) -> Frame {
    let Some(end) = memmem::find(bytes, b"\r\n") else { return Frame::Partial };
    let (line, rest) = (&bytes[..end], &bytes[end + 2..]);
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        message(end + 2, arguments)
    } else if let Some(arguments) = line.strip_prefix(b"HMSG ") {
        message_with_headers(end + 2, arguments, rest)
    } else {
        Frame::Good(end + 2)
    }
}

/// Classifies a message whose control line has `line` bytes.
fn message(line: usize, arguments: &[u8]) -> Frame {
    // async-nats itself fails on a length that is not a number; nats-server never sends one.
    let Some([size]) = last_numbers(arguments) else { return Frame::Good(line) };
    let length = line + size + 2;
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).count();
    match str::from_utf8(arguments).map(words) {
        Ok(3 | 4) => Frame::Good(length),
        // Without a subject, there is no receiver for a replacement.
        _ => Frame::Unreadable(length, String::new()),
    }
}

fn message_with_headers(line: usize, arguments: &[u8], rest: &[u8]) -> Frame {
    let Some([headers, size]) = last_numbers(arguments).filter(|[headers, size]| headers <= size) else {
        return Frame::Good(line);
    };
    let length = line + size + 2;
    let words: Vec<_> = match str::from_utf8(arguments) {
        Ok(text) => text.split_whitespace().collect(),
        Err(_) => return Frame::Unreadable(length, String::new()),
    };
    let (subject, sid, reply) = match *words.as_slice() {
        [subject, sid, _, _] => (subject, sid, ""),
        [subject, sid, reply, _, _] => (subject, sid, reply),
        _ => return Frame::Unreadable(length, String::new()),
    };
    match rest.get(..headers) {
        None => Frame::Partial,
        Some(headers) if are_readable(headers) => Frame::Good(length),
        Some(_) if subject.starts_with(RECORD) => {
            Frame::Unreadable(length, format!("MSG {subject} {sid} {reply} 0\r\n\r\n"))
        }
        Some(_) => {
            let size = UNREADABLE.len();
            Frame::Unreadable(length, format!("HMSG {subject} {sid} {reply} {size} {size}\r\n{UNREADABLE}\r\n"))
        }
    }
}

/// Returns the numbers at the end of a control line.
fn last_numbers<const N: usize>(arguments: &[u8]) -> Option<[usize; N]> {
    let mut words = arguments.rsplit(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let mut numbers = [0; N];
    for number in numbers.iter_mut().rev() {
        *number = str::from_utf8(words.next()?).ok()?.parse().ok()?;
    }
    Some(numbers)
}

/// Returns `true` if async-nats can read the headers. The steps are those of its `Connection::try_read_op`.
fn are_readable(headers: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(headers) else { return false };
    let mut lines = text.lines().peekable();
    let Some(version) = lines.next().and_then(|line| line.strip_prefix("NATS/1.0")) else { return false };
    let version = version.trim();
    let status = version.split_once(' ').map_or(version, |(status, _)| status.trim());
    if !status.is_empty() && status.parse::<StatusCode>().is_err() {
        return false;
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { return false };
        if HeaderName::from_str(name).is_err() {
            return false;
        }
        // async-nats joins a folded value first and then trims its end, so only the last line may contain a carriage
        // return.
        let mut value = value.trim_start();
        while let Some(folded) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            if value.contains('\r') {
                return false;
            }
            value = folded;
        }
        if value.trim_end().contains('\r') {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hmsg(subject: &str, headers: &str, body: &str) -> String {
        let (head, all) = (headers.len(), headers.len() + body.len());
        format!("HMSG {subject} 7 _INBOX.a {head} {all}\r\n{headers}{body}\r\n")
    }

    /// Returns the output of the filter for `input` in pieces of `size` bytes.
    fn filtered(input: &str, size: usize) -> String {
        let mut filter = Filter::default();
        let mut output = Vec::new();
        for piece in input.as_bytes().chunks(size) {
            filter.input().extend_from_slice(piece);
            while let Some(Output::Passed(bytes) | Output::Replaced(bytes)) = filter.next() {
                output.extend_from_slice(&bytes);
            }
        }
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn unreadable_headers_are_replaced_and_neighbours_pass() {
        let good = hmsg("a.b", "NATS/1.0\r\nx: y\r\n\r\n", "HMSG a 1 5 5\r\n");
        let plain = "MSG a 7 4\r\n\r\n\r\n\r\nPING\r\n-ERR 'HMSG a'\r\n".to_owned();
        let bad = hmsg("a.b", "NATS/1.0\r\nx: y\rz\r\n\r\n", "body\r\nHMSG x");
        let size = UNREADABLE.len();
        let told = format!("HMSG a.b 7 _INBOX.a {size} {size}\r\n{UNREADABLE}\r\n");
        let input = [&good, &plain, &bad, &bad, &good, &plain].map(String::as_str).concat();
        let expected = [&good, &plain, &told, &told, &good, &plain].map(String::as_str).concat();
        for size in [1, 2, 7, 64, input.len()] {
            assert_eq!(filtered(&input, size), expected, "in pieces of {size}");
        }
        assert!(are_readable(UNREADABLE.as_bytes()));
    }

    #[test]
    fn an_unreadable_record_arrives_without_a_value() {
        let bad = hmsg("$KV.jwks.ring", "NATS/1.0\r\nx: y\rz\r\n\r\n", "body");
        assert_eq!(filtered(&bad, 9), "MSG $KV.jwks.ring 7 _INBOX.a 0\r\n\r\n");
    }

    #[test]
    fn headers_are_read_by_the_rules_of_async_nats() {
        for (headers, readable) in [
            ("NATS/1.0\r\n\r\n", true),
            ("NATS/1.0 503\r\n\r\n", true),
            ("NATS/1.0 100 Idle Heartbeat\r\n\r\n", true),
            ("NATS/1.0\r\na: b\nc: d\r\n\r\n", true),
            ("NATS/1.0\r\na: b\r\n c\r\n\r\n", true),
            ("NATS/1.0\r\na: b\r\r\n\r\n", true),
            ("NATS/1.0\r\na: b\r\r\n c\r\n\r\n", false),
            ("NATS/1.0\r\na: b\r\n c\rd\r\n\r\n", false),
            ("NATS/1.0\r\na: b", true),
            ("NATS/1.0\r\n: c\r\n\r\n", true),
            ("NATS/1.0\r\na: b\rc\r\n\r\n", false),
            ("NATS/1.0\r\na\rb: c\r\n\r\n", false),
            ("NATS/1.0\r\nabc\r\n\r\n", false),
            ("NATS/1.0\r\na b: c\r\n\r\n", false),
            ("NATS/1.0 abc\r\n\r\n", false),
            ("NATS/1.0 99999\r\n\r\n", false),
            ("NATS/9.9\r\na: b\r\n\r\n", false),
            ("a: b\r\n\r\n", false),
            ("\r\n\r\n", false),
            ("", false),
        ] {
            assert_eq!(are_readable(headers.as_bytes()), readable, "{headers:?}");
        }
        assert!(!are_readable(b"NATS/1.0\r\na: \xff\r\n\r\n"));
    }

    #[test]
    fn a_control_line_that_is_not_text_takes_its_message_along() {
        for line in
            [&b"MSG a\xff 7 2\r\nhi\r\n"[..], b"HMSG a\xff 7 0 2\r\nhi\r\n", b"HMSG a\xc2\xa0b 7 _I.a 0 2\r\nhi\r\n"]
        {
            assert_eq!(frame(line), Frame::Unreadable(line.len(), String::new()), "{line:?}");
        }
    }

    proptest! {
        /// The filter passes the message that follows any header.
        #[test]
        fn no_header_hides_the_next_message(headers in "(NATS/1.0)?[\r\n a-c:\u{a0}]{0,40}", size in 1_usize..50) {
            let next = hmsg("next", "NATS/1.0\r\n\r\n", "");
            let output = filtered(&[&*hmsg("a", &headers, "body"), &*next].concat(), size);
            prop_assert!(output.ends_with(&next));
            let (line, headers) = output.split_once("\r\n").unwrap();
            let length: usize = line.split(' ').nth_back(1).unwrap().parse().unwrap();
            prop_assert!(are_readable(&headers.as_bytes()[..length]));
        }
    }
}
