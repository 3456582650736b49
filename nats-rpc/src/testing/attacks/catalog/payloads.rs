//! JSON that is too deep, has duplicate keys, is of another type, or is malformed.

use serde_json::Value;
use serde_json::value::RawValue;

use crate::testing::attacks::attack::{Attack, Expected};
use crate::testing::attacks::target::{CANARY_NUMBER, CANARY_TEXT, Target};
use crate::testing::attacks::wire::{Message, header_block};

const DEPTH: usize = 100_000;
/// The number of members of the valid payload that are replaced, one after the other.
const MEMBERS: usize = 16;
/// The number of requests without a reply subject.
const UNANSWERED: usize = 100;

pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let deep = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(DEPTH / 2), "}".repeat(DEPTH / 2));
    let mut attacks = Vec::new();
    let mut survive = |name: &str, payload: &[u8]| {
        attacks.push(Attack::survived(format!("payload: {name}"), target, target.with_payload(payload)));
    };

    survive("empty", b"");
    survive("an empty array", b"[]");
    survive("an empty object", b"{}");
    survive("null", b"null");
    survive("not JSON", b"attacks");
    survive("JSON that ends too soon", b"{\"attacks\":");
    survive("JSON and more", format!("{} {{}}", target.payload).as_bytes());
    survive("a byte order mark", format!("\u{feff}{}", target.payload).as_bytes());
    survive("not UTF-8", b"{\"attacks\":\"\xff\xfe\"}");
    survive("half a surrogate pair", br#""\ud800""#);
    survive("NUL", b"\"\0\"");
    survive("a number of 10,000 digits", "9".repeat(10_000).as_bytes());
    survive("1e999", b"1e999");
    survive("100,000 nested arrays", deep.as_bytes());
    survive("50,000 nested objects", deep_object.as_bytes());
    survive("prototype keys", br#"{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}}}"#);
    survive("another type", other_type(&target.payload).as_bytes());

    let members = members(&target.payload);
    for (name, value) in members.iter().take(MEMBERS) {
        let with = |other: &str| replaced(&members, name, Some(other));
        survive(&format!("member `{name}` of another type"), with(&other_type(value)).as_bytes());
        survive(&format!("member `{name}` null"), with("null").as_bytes());
        survive(&format!("member `{name}` 100,000 levels deep"), with(&deep).as_bytes());
        survive(&format!("member `{name}` absent"), replaced(&members, name, None).as_bytes());
        survive(&format!("member `{name}` twice"), with(&format!("{value},{}:{value}", quoted(name))).as_bytes());
    }

    let unanswered = Message { headers: marked(target), ..target.request() };
    let name = format!("{UNANSWERED} requests without a reply subject");
    attacks.push(Attack::new(name, unanswered.publish().repeat(UNANSWERED), Expected::Survival(target.inbox())));
    attacks
}

/// A header that distinguishes the suite's own messages without a reply subject from replies of the service.
pub(in crate::testing::attacks) const MARK: &str = "nats-rpc-attacks: 1";

fn marked(target: &Target) -> Vec<u8> {
    let headers = target.request().headers;
    match headers.strip_suffix(b"\r\n") {
        Some(lines) => [lines, MARK.as_bytes(), b"\r\n\r\n"].concat(),
        None => header_block([MARK]),
    }
}

/// Returns a canary of a type that `value` does not have.
fn other_type(value: &str) -> String {
    match value.as_bytes().first() {
        Some(b'"') => CANARY_NUMBER.to_string(),
        _ => quoted(CANARY_TEXT),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Returns the members of an object, exactly as written; none of another value.
fn members(payload: &str) -> Vec<(String, String)> {
    let object: Option<std::collections::BTreeMap<String, &RawValue>> = serde_json::from_str(payload).ok();
    object.unwrap_or_default().into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

/// Returns the object with another value of one member, or without it.
fn replaced(members: &[(String, String)], name: &str, other: Option<&str>) -> String {
    let member = |(own, value): &(String, String)| match (own == name, other) {
        (false, _) => Some(format!("{}:{value}", quoted(own))),
        (true, Some(other)) => Some(format!("{}:{other}", quoted(own))),
        (true, None) => None,
    };
    let members: Vec<_> = members.iter().filter_map(member).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_replaced_one_at_a_time() {
        let members = members(r#"{"a":1,"b":"x"}"#);
        assert_eq!(replaced(&members, "a", Some("null")), r#"{"a":null,"b":"x"}"#);
        assert_eq!(replaced(&members, "b", None), r#"{"a":1}"#);
        assert_eq!(replaced(&members, "a", Some(r#"1,"a":1"#)), r#"{"a":1,"a":1,"b":"x"}"#);
        assert!(super::members("[1]").is_empty());
    }

    #[test]
    fn another_type_is_no_valid_one() {
        assert_eq!(other_type("\"x\""), CANARY_NUMBER.to_string());
        assert_eq!(other_type("7"), format!("\"{CANARY_TEXT}\""));
    }
}
