//! The acknowledgement of a JetStream publish, which a caller must not mistake for the reply to its request.
//!
//! A stream that captures the subject of a request acknowledges the request to its reply subject, before the service
//! replies. The acknowledgement is JSON without headers, so a lenient reply type decodes it into a success.

use std::borrow::Cow;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The header of a reply that has the form of an acknowledgement but is none.
static REPLY: HeaderName = HeaderName::from_static("Rpc-Reply");

/// The beginnings of an acknowledgement, as nats-server writes it.
const BEGINNINGS: [&[u8]; 2] = [b"{\"stream\":\"", b"{\"error\":{\"code\":"];
/// An upper limit for the length of an acknowledgement, in bytes.
const MAX_LEN: usize = 2_048;

/// The members of an acknowledgement. A body with any other member is not an acknowledgement.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishAck<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(rename = "seq")]
    _seq: u64,
    #[serde(rename = "domain")]
    _domain: Option<Cow<'a, str>>,
    #[serde(rename = "duplicate")]
    _duplicate: Option<bool>,
    #[serde(rename = "batch")]
    _batch: Option<Cow<'a, str>>,
    #[serde(rename = "count")]
    _count: Option<u64>,
    #[serde(rename = "val")]
    _val: Option<Cow<'a, str>>,
    /// The reason why the stream did not store the message.
    #[serde(rename = "error")]
    _error: Option<IgnoredAny>,
}

/// Returns the name of the stream, if `body` is exactly an acknowledgement as nats-server writes it.
#[inline]
pub(crate) fn stream_of(body: &[u8]) -> Option<Cow<'_, str>> {
    if BEGINNINGS.iter().any(|beginning| body.starts_with(beginning)) { read(body) } else { None }
}

#[cold]
fn read(body: &[u8]) -> Option<Cow<'_, str>> {
    if body.len() > MAX_LEN {
        return None;
    }
    serde_json::from_slice(body).ok().map(|PublishAck { stream, .. }| stream)
}

/// Returns the headers that distinguish a reply from an acknowledgement; `None` for a `body` of another form.
#[inline]
pub(crate) fn told_apart(body: &[u8]) -> Option<HeaderMap> {
    stream_of(body)?;
    let mut headers = HeaderMap::new();
    headers.insert(REPLY.clone(), HeaderValue::from("handler"));
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_are_recognized_by_all_their_members() {
        for body in [
            r#"{"stream":"AUDIT","seq":1}"#,
            r#"{"stream":"AUDIT", "seq":1}"#,
            r#"{"stream":"AUDIT","seq":1,"duplicate":true}"#,
            r#"{"stream":"AUDIT","domain":"hub","seq":1}"#,
            r#"{"stream":"AUDIT","seq":3,"batch":"b","count":3,"val":"17"}"#,
            r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"},"stream":"AUDIT","seq":0}"#,
        ] {
            assert_eq!(stream_of(body.as_bytes()).as_deref(), Some("AUDIT"), "{body}");
            assert!(told_apart(body.as_bytes()).is_some());
        }
    }

    #[test]
    fn other_bodies_are_no_acknowledgements() {
        for body in [
            "",
            "{}",
            "null",
            r#"{"stream":"AUDIT"}"#,
            r#"{"seq":1}"#,
            r#"{"stream":"AUDIT","seq":"1"}"#,
            r#"{"stream":"AUDIT","seq":-1}"#,
            r#"{"stream":"AUDIT","seq":1,"name":"x"}"#,
            r#"{"stream":"AUDIT","seq":1}x"#,
            r#"[{"stream":"AUDIT","seq":1}]"#,
            r#"{"error":{"code":404}}"#,
        ] {
            assert_eq!(stream_of(body.as_bytes()), None, "{body}");
            assert!(told_apart(body.as_bytes()).is_none());
        }
        let long = format!(r#"{{"stream":"{}","seq":1}}"#, "x".repeat(MAX_LEN));
        assert_eq!(stream_of(long.as_bytes()), None);
    }
}
