//! A fast path for envelopes exactly as NestJS's own client writes them, without a search for keys.
//!
//! `JSON.stringify` produces exactly one form: `{"pattern":"<subject>","data":<value>,"id":"<21 digits>"}`, and for an
//! event the same without `id`. The general parser reads every other form, with the same result.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::{Envelope, is_id_digits};

/// The length of NestJS's ids, in digits.
pub(super) const ID_DIGITS: usize = 21;
/// The length of `,"id":"<21 digits>"}`.
const ID_TAIL: usize = 7 + ID_DIGITS + 2;

/// Returns the envelope, if it is one for `subject` in the usual form.
#[inline]
pub(in crate::wire) fn read(subject: &str, payload: &Bytes) -> Option<Envelope> {
    let rest = payload.strip_prefix(br#"{"pattern":""#.as_slice())?;
    let rest = rest.strip_prefix(subject.as_bytes())?.strip_prefix(br#"","data":"#.as_slice())?;
    read_rest(subject, payload, rest)
}

fn read_rest(subject: &str, payload: &Bytes, rest: &[u8]) -> Option<Envelope> {
    // JSON represents such a subject by another text.
    if subject.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        return None;
    }
    let (data, id) = match rest.split_last_chunk::<ID_TAIL>() {
        Some((data, tail)) if is_id(tail) => (data, Some(&tail[6..ID_TAIL - 1])),
        _ => (rest.strip_suffix(b"}")?, None),
    };
    // A second `id`, or anything else after the data, makes it more than one value.
    let data: &RawValue = serde_json::from_slice(data).ok()?;
    let share = |part: &[u8]| payload.slice_ref(part);
    Some(Envelope { data: Some(share(data.get().as_bytes())), id: id.map(share) })
}

/// Returns `true` if `tail` is `,"id":"<21 digits>"}`.
fn is_id(tail: &[u8; ID_TAIL]) -> bool {
    let digits = tail.strip_prefix(br#","id":""#.as_slice()).and_then(|rest| rest.strip_suffix(br#""}"#.as_slice()));
    digits.is_some_and(is_id_digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_read(subject: &str, body: &str) -> bool {
        read(subject, &Bytes::copy_from_slice(body.as_bytes())).is_some()
    }

    #[test]
    fn what_differs_from_the_usual_form_is_left_to_others() {
        assert!(is_read("e", r#"{"pattern":"e","data":1,"id":"88a5f0d6ac4d1830655c1"}"#));
        assert!(is_read("e", r#"{"pattern":"e","data":1}"#));
        for other in [
            r#"{"pattern":"f","data":1}"#,
            r#"{"pattern": "e","data":1}"#,
            r#"{"data":1,"pattern":"e"}"#,
            r#"{"pattern":"e","id":"88a5f0d6ac4d1830655c1"}"#,
            r#"{"pattern":"e","data":,"id":"88a5f0d6ac4d1830655c1"}"#,
            r#"{"pattern":"e","data":1,"id":"88a5f0d6ac4d1830655C1"}"#,
            r#"{"pattern":"e","data":1,"id":"88a5f0d6ac4d1830\u0031"}"#,
            r#"{"pattern":"e","data":1,"id":"88a5f0d6ac4d18"655c1"}"#,
            r#"{"pattern":"e","data":1,"id":"x","id":"88a5f0d6ac4d1830655c1"}"#,
            r#"{"pattern":"e","data":1,"data":2}"#,
            r#"{"pattern":"e","data":{}}}"#,
            r#"{"pattern":"e","data":1} "#,
        ] {
            assert!(!is_read("e", other), "{other}");
        }
        assert!(!is_read("a\"", r#"{"pattern":"a"","data":1}"#), "no JSON");
        assert!(!is_read(r"\u0065", r#"{"pattern":"\u0065","data":1}"#), "the pattern `e`");
    }
}
