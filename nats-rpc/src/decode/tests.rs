use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::*;

/// A secret that no error text may repeat.
const SECRET: &str = "hunter2";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code, reason = "the types matter alone")]
struct LogIn {
    email: String,
    password: String,
    #[serde(default)]
    attempts: u8,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    raw: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Short,
    Long { pages: u32 },
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Tag {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Even;

impl TryFrom<String> for Even {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len().is_multiple_of(2) { Ok(Self) } else { Err(format!("{text:?} is not even")) }
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "t")]
#[allow(dead_code, reason = "the types matter alone")]
enum Tagged {
    A { n: u8 },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code, reason = "the types matter alone")]
enum Untagged {
    N(u8),
}

#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "the types matter alone")]
struct Flat {
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

/// Returns the text of the error, which repeats neither secret.
fn why<T: DeserializeOwned + Debug>(json: &str) -> String {
    let error = from_json::<T>(json.as_bytes()).unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(!told.contains(SECRET) && !told.contains("8675309"), "{told}");
    error.to_string()
}

#[track_caller]
fn begins(why: &str, start: &str) {
    assert!(why.starts_with(start), "{why}");
}

#[track_caller]
fn says(why: &str, part: &str) {
    assert!(why.contains(part), "{why}");
}

#[test]
fn error_names_the_field_and_the_types() {
    let of = |field: &str| why::<LogIn>(&format!(r#"{{"email":"e","password":"p",{field}}}"#));
    begins(
        &why::<LogIn>(r#"{"email":"e","password":8675309}"#),
        "`password`: expected a string, found a number, at line 1 column ",
    );
    begins(&why::<LogIn>(r#"{"email":"e","password":["hunter2"]}"#), "`password`: expected a string, found an array");
    begins(&why::<LogIn>(r#"{"email":"hunter2"}"#), "missing field `password`");
    begins(&why::<LogIn>(r#"{"email":"hunter2","email":"hunter2","password":"p"}"#), "a field is there more than once");
    begins(&of(r#""attempts":"hunter2""#), "`attempts`: expected u8, found a string");
    begins(&of(r#""attempts":8675309"#), "`attempts`: expected u8, found another number");
    begins(&of(r#""kind":"hunter2""#), "`kind`: unknown variant, expected one of `short`, `long`");
    begins(&of(r#""kind":{"long":{"pages":"hunter2"}}"#), "`kind.*.*`: expected u32, found a string");
    begins(&of(r#""tags":[{"name":"a"},{"name":8675309}]"#), "`tags[1].name`: expected a string");
    begins(&of(r#""tags":[{"name":"a","hunter2":1}]"#), "`tags[0]`: unknown field, expected `name`");
    begins(&of(r#""raw":{"a":"hunter2"},"attempts":"hunter2""#), "`attempts`: expected u8");
}

#[test]
fn no_form_of_error_repeats_a_value() {
    // The control: the error text of serde_json itself.
    let by_itself = |json: &str| serde_json::from_str::<LogIn>(json).unwrap_err().to_string();
    assert!(by_itself(r#"{"email":"e","password":8675309}"#).contains("8675309"));
    assert!(by_itself(r#"{"email":"e","password":"p","kind":"hunter2"}"#).contains(SECRET));
    begins(&why::<Even>(r#""hunter2""#), "the value is not valid");
    begins(&why::<Vec<Even>>(r#"["hi","hunter2"]"#), "`[1]`: the value is not valid");
    begins(&why::<Untagged>(r#""hunter2""#), "the value is not valid");
    says(&why::<Tagged>(r#"{"t":"hunter2"}"#), "unknown variant, expected `A`");
    says(&why::<Tagged>(r#"{"t":"A","n":"hunter2"}"#), "expected u8, found a string");
    says(&why::<Flat>(r#"{"hunter2":"hunter2"}"#), "expected u8, found a string");
    says(&why::<BTreeMap<u8, u8>>(r#"{"hunter2":1}"#), "column");
    begins(&why::<BTreeMap<u8, u8>>(r#"{"1":"hunter2"}"#), "`*`: expected u8, found a string");
    says(&why::<(u8, u8)>(r#"[8675309]"#), "expected u8");
    begins(&why::<std::net::IpAddr>(r#""hunter2""#), "the value is not valid");
    says(&why::<char>(r#""hunter2""#), "a character");
    says(&why::<LogIn>(r#"["hunter2","hunter2"]"#), "found an array");
    says(&why::<()>(r#""hunter2""#), "found a string");
}

#[test]
fn malformed_json_has_its_reason_and_place() {
    assert_eq!(why::<LogIn>("hunter2"), "expected value, at line 1 column 1");
    assert_eq!(why::<LogIn>(r#"{"email":"hunter2"#), "EOF while parsing a string, at line 1 column 17");
    assert_eq!(why::<u8>("1 hunter2"), "trailing characters, at line 1 column 3");
    let deep = "[".repeat(1_000);
    begins(&why::<serde_json::Value>(&deep), "recursion limit exceeded");
}

#[test]
fn half_a_surrogate_pair_becomes_a_replacement_character() {
    assert_eq!(from_json::<String>(br#""hi \ud83d""#).unwrap(), "hi \u{fffd}");
    assert_eq!(from_json::<String>(br#""hi \ud83d\ude00""#).unwrap(), "hi 😀");
    let tag = from_json::<Tag>(br#"{"name":"\udc00"}"#).unwrap();
    assert_eq!(tag, Tag { name: "\u{fffd}".to_owned() });
    begins(&why::<Tag>(r#"{"name":["\ud83d"]}"#), "`name`: expected a string, found an array");
}
