//! Single records of a KV bucket, read from the leader of its stream.
//!
//! The reply is JSON, in which the headers of the record are text. Consumers and direct gets deliver them as NATS
//! headers, and a header with a bare carriage return ends the async-nats client. async-nats' own reader of such a
//! reply also parses them, and fails. A user who can write one record could therefore keep every reader from starting.
//! This module reads such a record like any other.

use std::error::Error;

use async_nats::jetstream::{self, ErrorCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::KvHandles;

/// A record of a KV bucket, or the marker of a deleted one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KvRecord {
    /// The key.
    pub key: String,
    /// The value; `None` if the key was deleted, was purged, or has expired.
    pub value: Option<Bytes>,
    /// The revision, for writes bound to it.
    pub revision: u64,
    /// Is `true` if the headers of the record cannot be read: a program outside this framework wrote it.
    pub has_bad_headers: bool,
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the KV bucket {bucket} did not give a record: {source}")]
#[non_exhaustive]
pub struct KvReadError {
    /// The bucket.
    pub bucket: String,
    /// The cause.
    pub source: Box<dyn Error + Send + Sync>,
}

/// The reply of `STREAM.MSG.GET`.
#[derive(Deserialize)]
struct Reply {
    message: Option<Message>,
    error: Option<jetstream::Error>,
}

#[derive(Deserialize)]
struct Message {
    subject: String,
    seq: u64,
    /// Base64.
    hdrs: Option<String>,
    /// Base64.
    data: Option<String>,
}

impl KvHandles {
    /// Returns the record at `key` as the leader of the bucket's stream has it; `None` if the key was never written.
    ///
    /// `Store::entry` reads from any replica, which may be behind, and cannot read a record with a malformed header.
    ///
    /// # Errors
    /// [`KvReadError`] if JetStream rejects the request or does not reply.
    pub async fn latest(&self, key: &str) -> Result<Option<KvRecord>, KvReadError> {
        self.get(&serde_json::json!({ "last_by_subj": format!("$KV.{}.{key}", self.store.name) })).await
    }

    /// Returns the most recently written record, whatever its key.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub async fn newest(&self) -> Result<Option<KvRecord>, KvReadError> {
        self.latest(">").await
    }

    /// Returns the first record from `revision` on.
    ///
    /// # Errors
    /// As [`latest`](Self::latest).
    pub async fn next(&self, revision: u64) -> Result<Option<KvRecord>, KvReadError> {
        let any = format!("$KV.{}.>", self.store.name);
        self.get(&serde_json::json!({ "seq": revision, "next_by_subj": any })).await
    }

    async fn get(&self, wanted: &serde_json::Value) -> Result<Option<KvRecord>, KvReadError> {
        let bucket = self.store.name.as_str();
        let failed = |source: Box<dyn Error + Send + Sync>| KvReadError { bucket: bucket.to_owned(), source };
        let asked = self.jetstream.request(format!("STREAM.MSG.GET.KV_{bucket}"), wanted).await;
        let reply: Reply = asked.map_err(|error| failed(error.into()))?;
        record(bucket, reply).map_err(failed)
    }
}

fn record(bucket: &str, reply: Reply) -> Result<Option<KvRecord>, Box<dyn Error + Send + Sync>> {
    let message = match reply {
        Reply { error: Some(error), .. } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => return Ok(None),
        Reply { error: Some(error), .. } => return Err(error.into()),
        Reply { message: Some(message), .. } => message,
        Reply { message: None, error: None } => return Err("the reply has neither a record nor an error".into()),
    };
    let key = message.subject.strip_prefix("$KV.").and_then(|rest| rest.strip_prefix(bucket)?.strip_prefix('.'));
    let Some(key) = key else { return Err("the reply has a record of another bucket".into()) };
    let headers = STANDARD.decode(message.hdrs.unwrap_or_default())?;
    let data = STANDARD.decode(message.data.unwrap_or_default())?;
    let value = (!is_marker(&headers)).then(|| data.into());
    Ok(Some(KvRecord { key: key.to_owned(), value, revision: message.seq, has_bad_headers: !are_good(&headers) }))
}

/// Returns the lines of a block of headers, without the line with the protocol version.
fn lines(headers: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = headers;
    let lines = std::iter::from_fn(move || {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        rest = after;
        Some(line)
    });
    lines.skip(1).filter(|line| !line.is_empty())
}

/// Returns `true` if the message marks a deleted key. Deletions and expirations are messages too.
fn is_marker(headers: &[u8]) -> bool {
    lines(headers).any(|line| line.starts_with(b"KV-Operation:") || line.starts_with(b"Nats-Marker-Reason:"))
}

/// Returns `true` if each line is a name and a value that a client can parse.
fn are_good(headers: &[u8]) -> bool {
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| byte.is_ascii_graphic());
    let is_value = |value: &[u8]| std::str::from_utf8(value).is_ok_and(|value| !value.contains(['\r', '\n', '\0']));
    let is_good = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':');
        colon.is_some_and(|colon| is_name(&line[..colon]) && is_value(&line[colon + 1..]))
    };
    headers.is_empty()
        || (headers.starts_with(b"NATS/1.0") && headers.ends_with(b"\r\n") && lines(headers).all(is_good))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &str) -> KvRecord {
        let message = serde_json::json!({
            "subject": "$KV.b.k", "seq": 7, "data": STANDARD.encode("v"), "hdrs": STANDARD.encode(headers)
        });
        let reply = serde_json::from_value(serde_json::json!({ "message": message })).unwrap();
        record("b", reply).unwrap().unwrap()
    }

    #[test]
    fn deletion_and_expiry_are_no_values_but_have_a_revision() {
        let value = Some(Bytes::from_static(b"v"));
        assert_eq!((read("").value, read("").revision), (value.clone(), 7));
        assert_eq!(read("NATS/1.0\r\nNats-TTL: 5s\r\n\r\n").value, value);
        for marker in ["KV-Operation: DEL", "KV-Operation: PURGE", "Nats-Marker-Reason: MaxAge"] {
            let record = read(&format!("NATS/1.0\r\nA: b\r\n{marker}\r\n\r\n"));
            assert_eq!((record.value, record.revision), (None, 7), "{marker}");
        }
        // A line that only a parser of bare line ends would recognize is part of the value before it.
        for injected in ["A: b\nKV-Operation: DEL", "A: b\rKV-Operation: DEL"] {
            assert_eq!(read(&format!("NATS/1.0\r\n{injected}\r\n\r\n")).value, value, "{injected:?}");
        }
    }

    #[test]
    fn bad_headers_are_seen_and_the_value_is_read() {
        for good in ["", "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\nB:\r\n\r\n", "NATS/1.0\r\nA: ü\r\n\r\n"] {
            assert!(!read(good).has_bad_headers, "{good:?}");
        }
        for bad in ["A: x\rB: y", "A: x\nB: y", "no colon", ": no name", "a b: c", "A: \0"] {
            let record = read(&format!("NATS/1.0\r\n{bad}\r\n\r\n"));
            assert!(record.has_bad_headers && record.value.is_some(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_message_that_is_not_there_is_absent() {
        let refused = |code: u64| {
            let error = serde_json::json!({ "error": { "code": 404, "err_code": code, "description": "d" } });
            record("b", serde_json::from_value(error).unwrap())
        };
        assert_eq!(refused(10037).unwrap(), None);
        assert!(refused(10059).is_err());
        for other in [r#"{"message":{"subject":"$KV.bb.k","seq":1}}"#, "{}"] {
            assert!(record("b", serde_json::from_str(other).unwrap()).is_err(), "{other}");
        }
    }
}
