//! The wire format of NestJS's NATS transport.
//!
//! A request is `{"pattern","data","id"}`; without an `id` it is an event. A reply has exactly the keys `response` or
//! `err`, `isDisposed` and `id`. With any further key, NestJS 12 passes the whole envelope to its caller. With an
//! empty body, it reports that there are no subscribers.

pub(super) mod usual;

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::marker::PhantomData;
use std::sync::LazyLock;

use bytes::Bytes;
use memchr::memmem::Finder;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use self::usual::ID_DIGITS;
use super::{Dialect, Opened, error_body};
use crate::decode::DecodeError;
use crate::error::RpcError;

/// The maximum depth and width of an object pattern, as in NestJS.
const MAX_PATTERN_DEPTH: usize = 5;
const MAX_PATTERN_KEYS: usize = 20;

/// The maximum length of an `id` that a reply repeats, in bytes. NestJS's own have 23 bytes. An `id` as long as a
/// message would leave no space for the reply.
pub(super) const MAX_ID: usize = 256;

/// Finds the key in every body that may be an envelope; prepared once.
static PATTERN_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"pattern\""));

/// The fields of an object that NestJS reads. `null` is not absent: for NestJS, an `id` of `null` is an id.
#[derive(Default)]
struct Fields<'a> {
    pattern: Option<&'a RawValue>,
    data: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    /// A field that occurs more than once. JavaScript uses the last one, other parsers use the first.
    repeated: Option<&'static str>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "lowercase")]
        enum Name {
            Pattern,
            Data,
            Id,
            #[serde(other)]
            Other,
        }

        struct Members<'a>(PhantomData<Fields<'a>>);

        impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
            type Value = Fields<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Fields<'a>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = members.next_key()? {
                    let (field, name) = match name {
                        Name::Pattern => (&mut fields.pattern, "pattern"),
                        Name::Data => (&mut fields.data, "data"),
                        Name::Id => (&mut fields.id, "id"),
                        Name::Other => {
                            members.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if field.replace(members.next_value()?).is_some() {
                        fields.repeated = Some(name);
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

impl Fields<'_> {
    /// Rejects an envelope that two parsers would read differently.
    fn unambiguous(self, payload: &Bytes) -> Result<Self, (Dialect, RpcError)> {
        let Some(name) = self.repeated else { return Ok(self) };
        let id = self.id.filter(|id| name != "id" && id.get().len() <= MAX_ID);
        let dialect = Dialect::Nest { id: id.map(|id| payload.slice_ref(id.get().as_bytes())) };
        Err((dialect, RpcError::invalid_argument(format!("the message has the field `{name}` more than once"))))
    }
}

/// A parsed envelope. Its parts share the memory of the message.
#[derive(Debug)]
pub(super) struct Envelope {
    data: Option<Bytes>,
    id: Option<Bytes>,
}

impl Envelope {
    pub(super) fn open(self, wants_answer: bool) -> Result<Opened, (Dialect, RpcError)> {
        if let Some(length) = self.id.as_ref().map(Bytes::len).filter(|length| *length > MAX_ID) {
            let why = format!("the `id` of {length} bytes is too long: at most {MAX_ID} are sent back");
            return Err((Dialect::Nest { id: None }, RpcError::invalid_argument(why)));
        }
        let dialect = Dialect::Nest { id: self.id };
        // NestJS would run the handler as an event handler, and the caller would wait forever.
        if wants_answer && dialect == (Dialect::Nest { id: None }) {
            let error = RpcError::invalid_argument("the message has a reply subject and no `id`: a request needs one");
            return Err((dialect, error));
        }
        Ok(Opened { dialect, data: self.data })
    }
}

/// Two cheap checks, which avoid parsing of nearly every native body.
#[inline]
pub(super) fn may_be_envelope(payload: &[u8]) -> bool {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{') && PATTERN_KEY.find(payload).is_some()
}

/// Returns the envelope, if the body is one for `subject` (see [`WireFormat::Auto`](super::WireFormat::Auto)).
///
/// # Errors
/// 400 if one of the deciding fields occurs more than once.
pub(super) fn recognise(subject: &str, payload: &Bytes) -> Result<Option<Envelope>, (Dialect, RpcError)> {
    if !may_be_envelope(payload) {
        return Ok(None);
    }
    let Ok(fields) = serde_json::from_slice::<Fields<'_>>(payload) else { return Ok(None) };
    let Some(pattern) = fields.pattern else { return Ok(None) };
    let fields = fields.unambiguous(payload)?;
    let ours = normalised(pattern).is_some_and(|pattern| pattern == subject) || fields.id.is_some_and(is_generated_id);
    Ok(ours.then(|| envelope(payload, &fields)))
}

/// Returns the envelope by NestJS's own rules: a body with neither `pattern` nor `data` is bare data.
///
/// # Errors
/// 400 if the body is not valid JSON, for which NestJS would leave the caller waiting. Also if a field of the envelope
/// occurs more than once.
pub(super) fn parse(payload: &Bytes) -> Result<Envelope, (Dialect, RpcError)> {
    let body = payload.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(payload);
    let broken = |error: serde_json::Error| {
        let error = DecodeError::from(error);
        let error = RpcError::invalid_argument(format!("the message is no NestJS envelope: {error}"));
        (Dialect::Nest { id: None }, error)
    };
    // serde would read an array as the fields in their order. For NestJS an array is external data, like a number.
    if body.trim_ascii_start().first() != Some(&b'{') {
        let value: &RawValue = serde_json::from_slice(body).map_err(broken)?;
        return Ok(Envelope { data: Some(payload.slice_ref(value.get().as_bytes())), id: None });
    }
    let fields: Fields<'_> = serde_json::from_slice(body).map_err(broken)?;
    let fields = fields.unambiguous(payload)?;
    if fields.pattern.is_none() && fields.data.is_none() {
        return Ok(Envelope { data: Some(payload.slice_ref(body)), id: None });
    }
    Ok(envelope(payload, &fields))
}

fn envelope(payload: &Bytes, fields: &Fields<'_>) -> Envelope {
    let share = |raw: &RawValue| payload.slice_ref(raw.get().as_bytes());
    Envelope { data: fields.data.map(share), id: fields.id.map(share) }
}

/// Returns `true` if `id` has the form of NestJS's ids: 21 lower-case hexadecimal digits.
fn is_generated_id(id: &RawValue) -> bool {
    let digits = id.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    digits.is_some_and(|digits| is_id_digits(digits.as_bytes()))
}

fn is_id_digits(digits: &[u8]) -> bool {
    digits.len() == ID_DIGITS && digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns the subject that NestJS derives from a pattern in JSON; `None` if it derives none that is valid.
pub(crate) fn normalised(pattern: &RawValue) -> Option<String> {
    let text = pattern.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok(),
        b'{' => {
            let value: Value = serde_json::from_str(text).ok()?;
            let mut out = String::new();
            normalise(&value, 0, &mut out)?;
            Some(out)
        }
        _ => Some(text.to_owned()),
    }
}

fn normalise(value: &Value, depth: usize, out: &mut String) -> Option<()> {
    match value {
        Value::Object(members) => {
            if depth > MAX_PATTERN_DEPTH || members.len() > MAX_PATTERN_KEYS {
                return None;
            }
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| locale_compare(a, b));
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quote(key, out);
                out.push(':');
                normalise(value, depth + 1, out)?;
            }
            out.push('}');
        }
        Value::String(text) => quote(text, out),
        other => write!(out, "{other}").ok()?,
    }
    Some(())
}

/// Compares two keys as JavaScript's `localeCompare` does for visible ASCII: punctuation, digits, letters without
/// regard to case, then lower case first. Other characters follow the letters.
///
/// `#[message_pattern({..})]` sorts in the same order, so that both produce the same subject.
fn locale_compare(a: &str, b: &str) -> Ordering {
    const PUNCTUATION: &str = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$";
    let primary = |c: char| match PUNCTUATION.find(c) {
        Some(rank) => (false, rank),
        None => (true, u32::from(c.to_ascii_lowercase()) as usize),
    };
    let by_letter = a.chars().map(primary).cmp(b.chars().map(primary));
    // In ASCII, lower case is greater, so the operands are swapped.
    by_letter.then_with(|| b.cmp(a))
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

pub(super) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"response":"#);
}

pub(super) fn finish(out: &mut Vec<u8>, id: Option<&[u8]>) {
    out.push(b',');
    end(out, id);
}

/// Completes one of several replies: without `isDisposed`, more follow.
pub(super) fn finish_item(out: &mut Vec<u8>, id: Option<&[u8]>) {
    put_id(out, id);
    out.push(b'}');
}

/// Writes the reply of a handler that returns nothing: NestJS completes its caller without a value.
pub(super) fn nothing(out: &mut Vec<u8>, id: Option<&[u8]>) {
    out.push(b'{');
    end(out, id);
}

pub(super) fn error(out: &mut Vec<u8>, error: &RpcError, id: Option<&[u8]>) {
    out.extend_from_slice(br#"{"err":"#);
    error_body(out, error, Some(error.code().status()));
    out.push(b',');
    end(out, id);
}

fn end(out: &mut Vec<u8>, id: Option<&[u8]>) {
    out.extend_from_slice(br#""isDisposed":true"#);
    put_id(out, id);
    out.push(b'}');
}

fn put_id(out: &mut Vec<u8>, id: Option<&[u8]>) {
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        out.extend_from_slice(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{WireFormat, open};
    use super::*;

    const ID: &str = "88a5f0d6ac4d1830655c1";

    fn opened(wire: WireFormat, subject: &str, body: &str, wants_answer: bool) -> Result<(bool, Option<String>), u16> {
        match open(wire, subject, Bytes::copy_from_slice(body.as_bytes()), wants_answer) {
            Ok(Opened { dialect, data }) => {
                let data = data.map(|data| String::from_utf8(data.to_vec()).unwrap());
                Ok((matches!(dialect, Dialect::Nest { .. }), data))
            }
            Err((_, error)) => Err(error.code().status()),
        }
    }

    #[test]
    fn an_envelope_is_recognised_by_its_pattern_or_its_id() {
        let nest = |subject: &str, body: &str| opened(WireFormat::Auto, subject, body, true).unwrap().0;
        assert!(nest("echo", &format!(r#"{{"pattern":"echo","data":1,"id":"{ID}"}}"#)));
        assert!(nest("echo", r#"{"pattern":"echo","data":1,"id":7}"#));
        assert!(nest("mapped.echo", &format!(r#"{{"pattern":"echo","data":1,"id":"{ID}"}}"#)), "a subject mapping");
        assert!(nest("echo", &format!(r#"{{"id":"{ID}","metadata":{{}},"data":1,"pattern":"echo"}}"#)), "other keys");
        assert!(nest("42", r#"{"pattern":42,"data":1,"id":"x"}"#));
        assert!(nest(r#"{"cmd":"sum"}"#, r#"{"pattern":{"cmd":"sum"},"data":1,"id":"x"}"#));
        assert!(nest(
            r#"{"a":"x","nested":{"k":"v"},"z":1}"#,
            r#"{"pattern":{"z":1,"nested":{"k":"v"},"a":"x"},"data":1,"id":"x"}"#
        ));
        assert!(!nest("knit", r#"{"pattern":"cable","data":1,"id":"x"}"#), "a payload with a field `pattern`");
        assert!(!nest("echo", r#"{"data":1,"id":"x"}"#));
        assert!(!nest("pattern", r#"["pattern",1,"x"]"#), "an array is no envelope, whatever its members");
        assert!(!nest("echo", r#"{"pattern":"echo","#));
    }

    /// Node.js 20 printed both orders: `[…].sort((a, b) => a.localeCompare(b))`.
    #[test]
    fn pattern_keys_have_the_order_of_locale_compare() {
        let mut keys = ["ABa", "a-b", "Ab", "ab1", "AB", "abA", "a1", "aB", "a_b", "aba", "ab"];
        keys.sort_by(|a, b| locale_compare(a, b));
        assert_eq!(keys, ["a_b", "a-b", "a1", "ab", "aB", "Ab", "AB", "ab1", "aba", "abA", "ABa"]);
        let mut letters: Vec<_> = (b'!'..=b'~').map(|byte| char::from(byte).to_string()).collect();
        letters.sort_by(|a, b| locale_compare(a, b));
        let expected = "_-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789\
                        aAbBcCdDeEfFgGhHiIjJkKlLmMnNoOpPqQrRsStTuUvVwWxXyYzZ";
        assert_eq!(letters.concat(), expected);
        let pattern: &RawValue = serde_json::from_str(r#"{"key1":2,"key_a":1}"#).unwrap();
        assert_eq!(normalised(pattern).as_deref(), Some(r#"{"key_a":1,"key1":2}"#));
    }

    #[test]
    fn data_keeps_its_bytes_and_null_is_not_absent() {
        let data = |body: &str| opened(WireFormat::Auto, "e", body, true).unwrap().1;
        assert_eq!(data(r#"{"pattern":"e","data":{"a": 1.0},"id":1}"#).as_deref(), Some(r#"{"a": 1.0}"#));
        assert_eq!(data(r#"{"pattern":"e","data":null,"id":1}"#).as_deref(), Some("null"));
        assert_eq!(data(r#"{"pattern":"e","id":1}"#), None);
    }

    #[test]
    fn an_id_of_null_is_an_id_and_an_absent_one_is_refused() {
        assert!(opened(WireFormat::Auto, "e", r#"{"pattern":"e","data":1,"id":null}"#, true).is_ok());
        for wire in [WireFormat::Auto, WireFormat::Nest] {
            assert_eq!(opened(wire, "e", r#"{"pattern":"e","data":1}"#, true), Err(400));
            assert!(opened(wire, "e", r#"{"pattern":"e","data":1}"#, false).is_ok(), "an event");
        }
    }

    #[test]
    fn an_id_of_nestjs_is_21_lower_case_hexadecimal_digits() {
        let nest = |id: &str| {
            opened(WireFormat::Auto, "e", &format!(r#"{{"pattern":"f","data":1,"id":{id}}}"#), true).unwrap().0
        };
        assert!(nest(&format!(r#""{ID}""#)));
        for id in [r#""88a5f0""#, r#""88a5f0d6ac4d1830655cx""#, r#""88A5F0D6AC4D1830655C1""#, "888888888888888888888"] {
            assert!(!nest(id), "{id}");
        }
    }

    #[test]
    fn an_object_pattern_has_at_most_20_keys_and_6_levels() {
        let subject = |json: String| normalised(serde_json::from_str(&json).unwrap());
        let wide = |keys: usize| {
            let members: Vec<_> = (0..keys).map(|key| format!(r#""k{key:02}":1"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        let deep = |levels: usize| format!(r#"{}1{}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels));
        for fits in [wide(1), wide(20), deep(1), deep(6)] {
            assert_eq!(subject(fits.clone()), Some(fits));
        }
        assert_eq!(subject(wide(21)), None);
        assert_eq!(subject(deep(7)), None);
    }

    #[test]
    fn an_id_too_long_to_be_sent_back_is_refused() {
        let request = |digits: usize| format!(r#"{{"pattern":"e","data":1,"id":{}}}"#, "7".repeat(digits));
        for wire in [WireFormat::Auto, WireFormat::Nest] {
            for wants_answer in [true, false] {
                assert!(opened(wire, "e", &request(MAX_ID), wants_answer).is_ok());
                assert_eq!(opened(wire, "e", &request(MAX_ID + 1), wants_answer), Err(400));
            }
        }
    }

    #[test]
    fn envelope_with_a_repeated_field_is_refused() {
        let id = format!(r#""id":"{ID}""#);
        for (fields, name) in [
            (format!(r#""pattern":"e","data":1,"data":2,{id}"#), "data"),
            (format!(r#""pattern":"e","data":1,"d\u0061ta":2,{id}"#), "data"),
            (format!(r#""data":1,{id},"pattern":"e","data":2"#), "data"),
            (format!(r#""pattern":"e","pattern":"f","data":1,{id}"#), "pattern"),
            (format!(r#""pattern":"f","pattern":"e","data":1,{id}"#), "pattern"),
            (format!(r#""pattern":"e","data":1,{id},"id":7"#), "id"),
        ] {
            let body = format!("{{{fields}}}");
            for wire in [WireFormat::Auto, WireFormat::Nest] {
                for wants_answer in [true, false] {
                    assert_eq!(opened(wire, "e", &body, wants_answer), Err(400), "{name}: {body}");
                }
            }
            assert!(!opened(WireFormat::Native, "e", &body, true).unwrap().0, "the body is the data");
        }
        let payload = format!(r#"{{"pattern":"e","data":1,"data":2,{id}}}"#);
        let (dialect, _) = open(WireFormat::Auto, "e", payload.into(), true).unwrap_err();
        assert_eq!(dialect, Dialect::Nest { id: Some(format!("\"{ID}\"").into()) }, "the caller finds its answer");
        // Only the fields of the envelope count.
        assert!(
            opened(
                WireFormat::Auto,
                "e",
                &format!(r#"{{"pattern":"e","data":{{"data":1,"data":2}},"x":1,"x":2,{id}}}"#),
                true
            )
            .is_ok()
        );
        assert!(!opened(WireFormat::Auto, "e", r#"{"data":1,"data":2}"#, true).unwrap().0);
    }

    #[test]
    fn by_the_letter_a_bare_body_is_an_events_data() {
        let data = |body: &str| opened(WireFormat::Nest, "e", body, false).unwrap().1;
        assert_eq!(data(r#"{"e":2}"#).as_deref(), Some(r#"{"e":2}"#));
        assert_eq!(data(r#"{"e":2,"id":"x"}"#).as_deref(), Some(r#"{"e":2,"id":"x"}"#));
        assert_eq!(data(r#""hey""#).as_deref(), Some(r#""hey""#));
        assert_eq!(data(r#"{"data":2,"id":"x"}"#).as_deref(), Some("2"), "one of the two makes an envelope");
        assert_eq!(data(r#"{"pattern":"e","id":"x"}"#), None);
        assert_eq!(data("\u{feff}[1]").as_deref(), Some("[1]"));
        assert_eq!(opened(WireFormat::Nest, "e", "nonsense", true), Err(400));
        assert_eq!(opened(WireFormat::Nest, "e", "", true), Err(400));
        assert_eq!(opened(WireFormat::Nest, "e", r#"{"e":2}"#, true), Err(400));
    }

    #[test]
    fn answers_have_nestjs_keys_in_its_order() {
        let id = Some(Bytes::from_static(b"\"ID\""));
        let mut out = Vec::new();
        let dialect = Dialect::Nest { id };
        dialect.begin(&mut out);
        out.push(b'5');
        dialect.finish_item(&mut out);
        assert_eq!(out, br#"{"response":5,"id":"ID"}"#);
        out.clear();
        dialect.begin(&mut out);
        out.push(b'5');
        dialect.finish(&crate::reply::ReplyKind::Value, &mut out);
        assert_eq!(out, br#"{"response":5,"isDisposed":true,"id":"ID"}"#);
        dialect.finish(&crate::reply::ReplyKind::Nothing, &mut out);
        assert_eq!(out, br#"{"isDisposed":true,"id":"ID"}"#);
        dialect.error(&RpcError::not_found("gone"), &mut out);
        assert_eq!(out, br#"{"err":{"status":404,"code":"NOT_FOUND","message":"gone"},"isDisposed":true,"id":"ID"}"#);
    }
}
