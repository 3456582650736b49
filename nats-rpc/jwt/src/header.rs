//! The header of a token, parsed strictly: three members are known, any other is rejected.

use std::borrow::Cow;

use serde::Deserialize;

use super::refusal::JwtRejection;

/// `alg`, `typ` and `kid` (RFC 7515, section 4.1).
///
/// `deny_unknown_fields` rejects `crit`, `b64`, `jwk`, `jku` and `x5c`: jsonwebtoken's own header type accepts and
/// ignores them. A duplicate member is rejected as well.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header<'a> {
    #[serde(borrow)]
    pub(crate) alg: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) typ: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) kid: Option<Cow<'a, str>>,
}

impl<'a> Header<'a> {
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, JwtRejection> {
        if !is_object(json) {
            return Err(JwtRejection::Header);
        }
        serde_json::from_slice(json).map_err(|_| JwtRejection::Header)
    }
}

/// Rejects `kid: null`, which is not a key id and does not count as absent.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    Cow::deserialize(deserializer).map(Some)
}

/// Returns `true` if `json` starts like an object; a derived `Deserialize` would also accept an array.
pub(crate) fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

/// Returns `true` if two media types are equal: case-insensitive, `application/` may be omitted (RFC 7515, 4.1.9).
pub(crate) fn same_media_type(found: &str, wanted: &str) -> bool {
    const PREFIX: &str = "application/";
    let short = match found.get(..PREFIX.len()) {
        Some(prefix) if prefix.eq_ignore_ascii_case(PREFIX) => &found[PREFIX.len()..],
        _ => found,
    };
    short.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_members_are_taken_and_each_once() {
        for good in [r#"{"alg":"HS256","typ":"JWT"}"#, r#" {"kid":"k","typ":"JWT","alg":"HS256"}"#] {
            assert!(Header::parse(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [
            r#"{"typ":"JWT"}"#,
            r#"{"alg":null,"typ":"JWT"}"#,
            r#"{"alg":"HS256","alg":"HS256","typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":"a","\u006bid":"b"}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":null}"#,
            r#"{"alg":"HS256","typ":"JWT","kid":7}"#,
            r#"{"alg":"HS256","typ":"JWT","crit":[]}"#,
            r#"{"alg":"HS256","typ":"JWT","jwk":{}}"#,
            r#"["HS256","JWT"]"#,
            r#"{"alg":"HS256","typ":"JWT"}x"#,
            "",
        ] {
            assert_eq!(Header::parse(bad.as_bytes()).err(), Some(JwtRejection::Header), "{bad}");
        }
    }

    #[test]
    fn media_types_compare_without_case_and_without_application() {
        for same in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert!(same_media_type(same, "at+jwt"), "{same}");
        }
        for other in
            ["jwt", "gw+jwt", "application/application/at+jwt", "text/at+jwt", "text/custom/at+jwt", "", "applicationé"]
        {
            assert!(!same_media_type(other, "at+jwt"), "{other}");
        }
    }
}
