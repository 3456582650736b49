//! Splits the bytes that nats-server sends into frames.

use memchr::memmem;

/// One frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Message {
        subject: &'a str,
        /// Empty if the message has no headers.
        headers: &'a [u8],
        payload: &'a [u8],
    },
    Ping,
    Pong,
    /// `-ERR` with its reason.
    Refusal(&'a str),
    /// `INFO`, `+OK`.
    Other,
}

/// Bytes that are not a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Returns the frame at the beginning of `bytes` and its length, or `None` if it is incomplete.
pub(super) fn first_frame(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Malformed> {
    let Some(end) = memmem::find(bytes, b"\r\n") else { return Ok(None) };
    let line = str::from_utf8(&bytes[..end]).map_err(|_| Malformed)?;
    let body = end + 2;
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let frame = match verb {
        "MSG" => return message(rest, false, bytes, body),
        "HMSG" => return message(rest, true, bytes, body),
        "PING" => Frame::Ping,
        "PONG" => Frame::Pong,
        "-ERR" => Frame::Refusal(rest),
        _ => Frame::Other,
    };
    Ok(Some((frame, body)))
}

/// Parses `<subject> <sid> [reply] [header bytes] <bytes in all>`, then the bytes.
fn message<'a>(
    line: &'a str,
    with_headers: bool,
    bytes: &'a [u8],
    body: usize,
) -> Result<Option<(Frame<'a>, usize)>, Malformed> {
    let subject = line.split(' ').next().ok_or(Malformed)?;
    let mut from_the_end = line.rsplit(' ');
    let mut size = || from_the_end.next().and_then(|digits| digits.parse::<usize>().ok()).ok_or(Malformed);
    let total = size()?;
    let headers = if with_headers { size()? } else { 0 };
    let end = body + total;
    if headers > total {
        return Err(Malformed);
    }
    match bytes.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => {
            let (headers, payload) = bytes[body..end].split_at(headers);
            Ok(Some((Frame::Message { subject, headers, payload }, end + 2)))
        }
        Some(_) => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_out_with_and_without_headers() {
        let plain = b"MSG _INBOX.a.000001 1 5\r\nhello\r\nPING\r\n";
        let frame = Frame::Message { subject: "_INBOX.a.000001", headers: b"", payload: b"hello" };
        assert_eq!(first_frame(plain), Ok(Some((frame, 32))));
        assert_eq!(first_frame(&plain[32..]), Ok(Some((Frame::Ping, 6))));

        let headed = b"HMSG a.b 1 reply.to 12 14\r\nNATS/1.0\r\n\r\n{}\r\n";
        let frame = Frame::Message { subject: "a.b", headers: b"NATS/1.0\r\n\r\n", payload: b"{}" };
        assert_eq!(first_frame(headed), Ok(Some((frame, headed.len()))));
    }

    #[test]
    fn a_body_may_hold_line_breaks() {
        let frame = Frame::Message { subject: "a", headers: b"", payload: b"\r\n\r\n" };
        assert_eq!(first_frame(b"MSG a 1 4\r\n\r\n\r\n\r\n"), Ok(Some((frame, 17))));
    }

    #[test]
    fn what_is_not_complete_waits_at_every_cut() {
        let whole = b"HMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n";
        for cut in 0..whole.len() {
            assert_eq!(first_frame(&whole[..cut]), Ok(None), "{cut} bytes");
        }
        assert!(matches!(first_frame(whole), Ok(Some((_, end))) if end == whole.len()));
    }

    #[test]
    fn the_servers_other_words_are_told_apart() {
        assert_eq!(first_frame(b"PONG\r\n"), Ok(Some((Frame::Pong, 6))));
        assert_eq!(first_frame(b"+OK\r\n"), Ok(Some((Frame::Other, 5))));
        assert_eq!(first_frame(b"INFO {\"port\":1}\r\n"), Ok(Some((Frame::Other, 17))));
        assert_eq!(first_frame(b"-ERR 'Stale'\r\n"), Ok(Some((Frame::Refusal("'Stale'"), 14))));
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        for bytes in [&b"MSG a 1 x\r\n"[..], b"MSG a 1 1\r\nab\r\n", b"HMSG a 1 9 2\r\nab\r\n", b"MSG\r\n", b"\xff\r\n"]
        {
            assert_eq!(first_frame(bytes), Err(Malformed), "{bytes:?}");
        }
    }
}
