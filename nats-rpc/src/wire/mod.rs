//! Wire formats: detects the format of a message, and writes its reply in the same one.
//!
//! - [`native`]: the body is the data, headers carry the rest, the reply is the bare value.
//! - [`nest`]: the envelope of NestJS, `{"pattern","data","id"}`; the reply is `{"response"|"err","isDisposed","id"}`.

mod native;
mod nest;
pub(crate) mod publish_ack;
pub(crate) mod stream;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use bytes::Bytes;

pub(crate) use self::nest::normalised as nest_subject;
use crate::error::RpcError;
use crate::reply::ReplyKind;

pub(crate) static ERROR: HeaderName = HeaderName::from_static("Nats-Service-Error");
pub(crate) static ERROR_CODE: HeaderName = HeaderName::from_static("Nats-Service-Error-Code");

/// The maximum length of an error text in a header, in bytes; the body has the full text.
const MAX_ERROR_HEADER: usize = 256;

/// The wire formats that a service accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireFormat {
    /// Both, detected for each message. The default.
    ///
    /// A message is in NestJS's format in two cases. Its body is an object whose `pattern`, normalised as NestJS does,
    /// equals the subject; or the object has a `pattern` and an `id` of 21 lower-case hexadecimal digits.
    #[default]
    Auto,
    /// NestJS's rules alone: a body without `pattern` and `data` is the bare payload of an event.
    Nest,
    /// No envelopes: the body is the data.
    Native,
}

/// The format of the reply to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Native,
    /// With the request's `id`, exactly as in the message; `None` if it had none.
    Nest {
        id: Option<Bytes>,
    },
}

/// A message without its envelope.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) dialect: Dialect,
    pub(crate) data: Option<Bytes>,
}

/// Removes the envelope.
///
/// # Errors
/// A request that cannot be given to a handler, with the format of the error reply.
// Once inlined, it does not move a body that is the data.
#[inline(always)]
pub(crate) fn open(
    wire: WireFormat,
    subject: &str,
    payload: Bytes,
    wants_answer: bool,
) -> Result<Opened, (Dialect, RpcError)> {
    if wire != WireFormat::Native
        && let Some(envelope) = nest::usual::read(subject, &payload)
    {
        return envelope.open(wants_answer);
    }
    let is_bare = match wire {
        WireFormat::Native => true,
        WireFormat::Auto => !nest::may_be_envelope(&payload),
        WireFormat::Nest => false,
    };
    if is_bare { Ok(native::open(payload)) } else { open_any(wire, subject, payload, wants_answer) }
}

/// Removes an envelope in any spelling.
fn open_any(
    wire: WireFormat,
    subject: &str,
    payload: Bytes,
    wants_answer: bool,
) -> Result<Opened, (Dialect, RpcError)> {
    if wire == WireFormat::Nest {
        return nest::parse(&payload)?.open(wants_answer);
    }
    match nest::recognise(subject, &payload)? {
        Some(envelope) => envelope.open(wants_answer),
        None => Ok(native::open(payload)),
    }
}

impl Dialect {
    /// Writes the part before the value of a reply.
    pub(crate) fn begin(&self, out: &mut Vec<u8>) {
        match self {
            Self::Native => {}
            Self::Nest { .. } => nest::begin(out),
        }
    }

    /// Completes a reply whose value is in `out` after [`begin`](Self::begin).
    pub(crate) fn finish(&self, written: &ReplyKind, out: &mut Vec<u8>) {
        match (self, written) {
            (Self::Native, _) => {}
            (Self::Nest { id }, ReplyKind::Value) => nest::finish(out, id.as_deref()),
            (Self::Nest { id }, ReplyKind::Nothing | ReplyKind::Stream(_)) => {
                out.clear();
                nest::nothing(out, id.as_deref());
            }
        }
    }

    /// Completes one of several replies in the same way.
    pub(crate) fn finish_item(&self, out: &mut Vec<u8>) {
        match self {
            Self::Native => {}
            Self::Nest { id } => nest::finish_item(out, id.as_deref()),
        }
    }

    /// Writes the reply for `error` over the content of `out`.
    pub(crate) fn error(&self, error: &RpcError, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::Native => native::error(out, error),
            Self::Nest { id } => nest::error(out, error, id.as_deref()),
        }
    }
}

/// Returns the headers of an error reply, the same in both formats.
pub(crate) fn error_headers(error: &RpcError) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ERROR.clone(), header_text(error.message()));
    headers.insert(ERROR_CODE.clone(), HeaderValue::from(error.code().status()));
    headers
}

/// Returns the part of `text` that fits into a header: short, on one line, and of printable ASCII.
///
/// Some clients drop all headers of a message for one byte that is not ASCII, so that an error reads as a success. The
/// body has the full text.
fn header_text(text: &str) -> HeaderValue {
    let printable = |c: char| match c {
        ' '..='~' => c,
        c if c.is_control() => ' ',
        _ => '?',
    };
    let line: String = text.chars().take(MAX_ERROR_HEADER).map(printable).collect();
    let line = line.trim();
    // An empty value would mean "no error" to clients of NATS services.
    HeaderValue::from(if line.is_empty() { "error" } else { line })
}

/// The body of an error reply; NestJS expects `status`.
#[derive(serde::Serialize)]
struct ErrorBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a serde_json::value::RawValue>,
}

fn error_body(out: &mut Vec<u8>, error: &RpcError, status: Option<u16>) {
    if let Some(body) = error.body() {
        out.extend_from_slice(body.get().as_bytes());
        return;
    }
    let body = ErrorBody { status, code: error.code().as_str(), message: error.message(), details: error.details() };
    let start = out.len();
    if serde_json::to_writer(&mut *out, &body).is_err() {
        // Strings and raw JSON cannot fail to serialise into memory. Even so, the reply is sent.
        out.truncate(start);
        out.extend_from_slice(br#"{"code":"INTERNAL","message":"internal error"}"#);
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_header_is_one_short_printable_line_and_never_empty() {
        let cases = [("a\r\nb", "a  b"), ("", "error"), ("\n", "error"), ("plain", "plain")];
        for (text, header) in cases.into_iter().chain([("größe 😀", "gr??e ?"), ("\u{85}\u{2028}a", "?a")]) {
            assert_eq!(header_text(text).as_str(), header);
        }
        assert!(header_text(&"ü".repeat(1_000)).as_str().len() <= MAX_ERROR_HEADER);
    }

    #[test]
    fn a_body_of_ones_own_is_sent_verbatim_in_both_dialects() {
        let error = RpcError::forbidden("x").with_body(serde_json::json!({ "status": "error" }));
        let mut out = Vec::new();
        Dialect::Native.error(&error, &mut out);
        assert_eq!(out, br#"{"status":"error"}"#);
        Dialect::Nest { id: Some(Bytes::from_static(b"7")) }.error(&error, &mut out);
        assert_eq!(out, br#"{"err":{"status":"error"},"isDisposed":true,"id":7}"#);
    }
}
