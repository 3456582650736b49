//! Finds and removes top-level fields of a JSON object without decoding the rest.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use memchr::memchr;
use memchr::memmem::{self, Finder};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::header::is_object;

/// The payload starts like an object but is malformed. It must be rejected: a more lenient parser might find the very
/// field that should have been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not valid JSON")]
pub(crate) struct Malformed;

/// A field's name, prepared for the search in every request.
#[derive(Debug)]
pub(crate) struct Field {
    name: Box<str>,
    finder: Finder<'static>,
}

impl Field {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), finder: Finder::new(name).into_owned() }
    }

    /// Excludes the field at the cost of one search. A name can also be spelled with escapes; for ASCII letters each
    /// of them starts with `\u00`.
    fn may_be_in(&self, json: &[u8]) -> bool {
        is_object(json) && (self.finder.find(json).is_some() || has_escaped_letter(json))
    }

    fn is(&self, key: &str) -> bool {
        *key == *self.name
    }
}

fn has_escaped_letter(json: &[u8]) -> bool {
    memchr(b'\\', json).is_some_and(|first| memmem::find(&json[first..], br"\u00").is_some())
}

/// Returns all values of the top-level `field`.
pub(crate) fn values<'a>(json: &'a [u8], field: &Field) -> Result<Vec<&'a RawValue>, Malformed> {
    if !field.may_be_in(json) {
        return Ok(Vec::new());
    }
    Ok(Fields::parse(json)?.0.into_iter().filter(|(key, _)| field.is(key)).map(|(_, value)| value).collect())
}

/// Returns `json` without the top-level `field`, or `None` if it has no such field.
pub(crate) fn without(json: &[u8], field: &Field) -> Result<Option<Bytes>, Malformed> {
    if !field.may_be_in(json) {
        return Ok(None);
    }
    let fields = Fields::parse(json)?.0;
    if !fields.iter().any(|(key, _)| field.is(key)) {
        return Ok(None);
    }
    let mut rest = Vec::with_capacity(json.len());
    rest.push(b'{');
    for (key, value) in fields.iter().filter(|(key, _)| !field.is(key)) {
        if rest.len() > 1 {
            rest.push(b',');
        }
        serde_json::to_writer(&mut rest, key).map_err(|_| Malformed)?;
        rest.push(b':');
        rest.extend_from_slice(value.get().as_bytes());
    }
    rest.push(b'}');
    Ok(Some(rest.into()))
}

/// Fields in their original order, duplicates included.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, Malformed> {
        serde_json::from_slice(json).map_err(|_| Malformed)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    fields.push((key, value));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(json: &str) -> Option<String> {
        without(json.as_bytes(), &Field::new("user")).unwrap().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn the_field_goes_and_everything_else_stays_byte_for_byte() {
        let cases = [
            (r#"{"user":{"sub":"x"}}"#, "{}"),
            (r#"{"a":1.50,"user":1,"b":"\u00e9 \"user\""}"#, r#"{"a":1.50,"b":"\u00e9 \"user\""}"#),
            (r#"{"user":1,"a":{"user":2},"user":3}"#, r#"{"a":{"user":2}}"#),
            (r#"{ "\u0075ser" : true , "a" : [ 1 ] }"#, r#"{"a":[ 1 ]}"#),
            (r#"{"a\"b":1,"us\u0065r":0}"#, r#"{"a\"b":1}"#),
        ];
        for (json, rest) in cases {
            assert_eq!(stripped(json).as_deref(), Some(rest), "{json}");
        }
    }

    #[test]
    fn what_has_no_such_field_is_left_alone() {
        for json in
            ["", "7", r#""user""#, r#"["user"]"#, "{}", r#"{"users":1}"#, r#"{"a":{"user":1}}"#, r#"{"a":"user"}"#]
        {
            assert_eq!(stripped(json), None, "{json}");
        }
    }

    #[test]
    fn what_cannot_have_such_a_field_is_not_even_read() {
        for json in [r#"{"a":1"#, r#"{"a":"\n"#, r#"{"a":"\\u0""#] {
            assert_eq!(stripped(json), None, "{json}");
            assert_eq!(values(json.as_bytes(), &Field::new("user")).map(|found| found.len()), Ok(0), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_read_does_not_pass() {
        for json in
            [&br#"{"user":1"#[..], br#"{"x":"\xff","user":1}"#, b"{\"x\":\"\xff\",\"user\":1}", br#"{"user":1}}"#]
        {
            assert_eq!(without(json, &Field::new("user")), Err(Malformed));
            assert!(values(json, &Field::new("user")).is_err());
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!(r#"{{"user":1,"a":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(!stripped(&deep).unwrap().contains("user"));
    }

    #[test]
    fn every_value_of_a_field_is_found() {
        let found = values(br#"{"token":"a","b":{"token":"x"},"tok\u0065n":2}"#, &Field::new("token")).unwrap();
        assert_eq!(found.iter().map(|value| value.get()).collect::<Vec<_>>(), [r#""a""#, "2"]);
    }
}
