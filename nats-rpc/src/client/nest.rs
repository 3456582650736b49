//! The client side of the NestJS dialect: the envelope of a call, and every form of its replies.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use async_nats::HeaderMap;
use bytes::Bytes;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::answer::remote_error;
use super::error::{CallError, RemoteError};
use crate::error::Code;
use crate::subject::Subject;
use crate::wire;

/// The message that NestJS sends when a guard rejects a request.
const FORBIDDEN: &str = "Forbidden resource";

/// The target of a call: a subject, and the pattern in NestJS's notation.
pub(super) struct Target {
    pub(super) subject: Subject,
    /// The pattern as written in the envelope: a string, a number or an object.
    pattern: String,
}

impl Target {
    /// Reads `users.get`, `42` or `{"cmd": "sum"}`.
    ///
    /// # Errors
    /// [`CallError::Invalid`] if the text does not yield a subject.
    pub(super) fn new(text: &str) -> Result<Self, CallError> {
        let invalid = |why: String| CallError::Invalid(why);
        let (subject, pattern) = if text.starts_with('{') {
            let object: &RawValue = serde_json::from_str(text)
                .map_err(|error| invalid(format!("the pattern {text:?} begins like an object and is none: {error}")))?;
            let subject = wire::nest_subject(object)
                .ok_or_else(|| invalid(format!("the pattern {text:?} is too deep or too wide for NestJS")))?;
            let value: Value = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
            (subject, value.to_string())
        } else if serde_json::from_str::<u64>(text).is_ok() {
            (text.to_owned(), text.to_owned())
        } else {
            (text.to_owned(), Value::from(text).to_string())
        };
        let subject = Subject::new(&subject).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { subject, pattern })
    }

    /// Returns the body of a call with `id`, or of an event without one.
    pub(super) fn envelope(&self, data: &[u8], id: Option<&str>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.pattern.len() + data.len() + 64);
        out.extend_from_slice(br#"{"pattern":"#);
        out.extend_from_slice(self.pattern.as_bytes());
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
        if let Some(id) = id {
            out.extend_from_slice(br#","id":""#);
            out.extend_from_slice(id.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
        out
    }
}

/// Returns an id in NestJS's format: 21 lower-case hexadecimal digits, unique for each call.
pub(super) fn new_id() -> String {
    static RANDOM: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let (high, low) = (RANDOM.hash_one((count, 0_u8)), RANDOM.hash_one((count, 1_u8)));
    format!("{high:016x}{:05x}", low >> 44)
}

/// One message of a reply.
#[derive(Debug)]
pub(super) enum Answer {
    /// A value, with more to follow.
    Item(Bytes),
    /// The last value.
    Last(Bytes),
    /// No further value.
    End,
    Error(RemoteError),
    /// The reply to another request.
    Foreign,
}

/// Reads a message as NestJS's client does. Where NestJS versions differ, it loses neither values nor errors.
///
/// # Errors
/// [`CallError::Decode`] if the message is not JSON.
pub(super) fn read(id: &str, headers: Option<&HeaderMap>, body: &Bytes) -> Result<Answer, CallError> {
    let by_headers = headers.and_then(|headers| remote_error(headers, body));
    if body.is_empty()
        && let Some(error) = by_headers
    {
        return Ok(Answer::Error(error));
    }
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| CallError::Decode(error.into()))?;
    let share = |value: &RawValue| body.slice_ref(value.get().as_bytes());
    // A body that is not an envelope is itself the value, and the only one.
    if !whole.get().starts_with('{') {
        return Ok(Answer::Last(share(whole)));
    }
    let fields: Fields<'_> = serde_json::from_str(whole.get()).map_err(|error| CallError::Decode(error.into()))?;
    if fields.id.is_some_and(|given| is_truthy(given) && !is_text(given, id)) {
        return Ok(Answer::Foreign);
    }
    if let Some(err) = fields.err.filter(|err| is_truthy(err)) {
        return Ok(Answer::Error(remote(err, by_headers)));
    }
    let disposed = fields.is_disposed.is_some_and(is_truthy);
    let is_envelope = fields.response.is_some() || fields.err.is_some() || fields.is_disposed.is_some();
    Ok(match fields.response {
        _ if !is_envelope || fields.others && !disposed => Answer::Last(share(whole)),
        Some(value) if disposed => Answer::Last(share(value)),
        Some(value) => Answer::Item(share(value)),
        None if disposed => Answer::End,
        None => Answer::Foreign,
    })
}

/// Reads the error in an `err` of any form; the headers, which services of this crate add, supply the missing parts.
fn remote(err: &RawValue, by_headers: Option<RemoteError>) -> RemoteError {
    let (status, text) = match by_headers {
        Some(RemoteError { status, message, .. }) => (Some(status), Some(message)),
        None => (None, None),
    };
    let value: Value = serde_json::from_str(err.get()).unwrap_or_default();
    let Value::Object(members) = &value else {
        let message = value.as_str().map_or_else(|| err.get().to_owned(), ToOwned::to_owned);
        return RemoteError { status: status.unwrap_or(500), name: None, message, details: None };
    };
    let number = |name: &str| {
        let status = members.get(name)?.as_u64()?;
        u16::try_from(status).ok().filter(|status| (100..600).contains(status))
    };
    let name = members.get("code").and_then(Value::as_str).map(ToOwned::to_owned);
    let message = match members.get("message") {
        Some(Value::String(text)) => text.clone(),
        // The form of NestJS's validation pipe.
        Some(Value::Array(texts)) => texts
            .iter()
            .map(|text| text.as_str().map_or_else(|| text.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join("; "),
        Some(other) if !other.is_null() => other.to_string(),
        _ => text.unwrap_or_else(|| "the service answered with an error".to_owned()),
    };
    let refused = || (message == FORBIDDEN).then_some(403);
    let named = || Code::from_name(name.as_deref()?).map(Code::status);
    let status = status
        .or_else(|| number("status"))
        .or_else(|| number("statusCode"))
        .or_else(|| number("code"))
        .or_else(named)
        .or_else(refused)
        .unwrap_or(500);
    let known = ["status", "statusCode", "code", "message"];
    let details = match members.get("details") {
        Some(details) => serde_json::value::to_raw_value(details).ok(),
        // Other members are kept as details.
        None => members.keys().any(|key| !known.contains(&key.as_str())).then(|| err.to_owned()),
    };
    RemoteError { status, name, message, details }
}

fn is_text(value: &RawValue, text: &str) -> bool {
    serde_json::from_str::<&str>(value.get()).is_ok_and(|given| given == text)
}

/// Returns `true` if JavaScript treats the value as true.
fn is_truthy(value: &RawValue) -> bool {
    match value.get() {
        "null" | "false" | "\"\"" => false,
        text => text.parse::<f64>() != Ok(0.0),
    }
}

/// The members of an envelope.
#[derive(Default)]
struct Fields<'a> {
    response: Option<&'a RawValue>,
    err: Option<&'a RawValue>,
    is_disposed: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    /// Is `true` if there are other members.
    others: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
                    let place = match &*key {
                        "response" => &mut fields.response,
                        "err" => &mut fields.err,
                        "isDisposed" => &mut fields.is_disposed,
                        "id" => &mut fields.id,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            fields.others = true;
                            continue;
                        }
                    };
                    *place = Some(map.next_value()?);
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Members)
    }
}
