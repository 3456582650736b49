//! What stands at a key of a KV bucket, and a write in place of exactly that.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{LastRawMessageError, LastRawMessageErrorKind};
use async_nats::jetstream::{self, kv};
use bytes::Bytes;

use crate::connection::is_kv_conflict;

/// The value of `key` with the revision that a write replaces, as the stream's leader has them; 0 if there
/// never was one.
///
/// `Store::entry` reads from any replica, and one that is behind tells of yesterday.
pub(super) async fn latest(store: &kv::Store, key: &str) -> Result<(Option<Bytes>, u64), LastRawMessageError> {
    found(store.stream.get_last_raw_message_by_subject(&subject(store, key)).await)
}

/// Writes `message` at `key` in place of `revision` (0: of nothing); false if another revision is there.
///
/// `Store::update` knows no time to live, and would make an expiring key permanent. Here the message brings
/// what it needs. After an error nobody knows whether it was written.
pub(super) async fn replace(
    jetstream: &jetstream::Context,
    store: &kv::Store,
    key: &str,
    message: PublishMessage,
    revision: u64,
) -> Result<bool, PublishError> {
    let message = message.expected_last_subject_sequence(revision);
    written(match jetstream.send_publish(subject(store, key), message).await {
        Ok(acknowledged) => acknowledged.await,
        Err(error) => Err(error),
    })
}

/// The subject that the values of `key` are published at.
pub(super) fn subject(store: &kv::Store, key: &str) -> String {
    format!("$KV.{}.{key}", store.name)
}

fn found(message: Result<StreamMessage, LastRawMessageError>) -> Result<(Option<Bytes>, u64), LastRawMessageError> {
    match message {
        Ok(message) => {
            // Deletions and expiries are messages too, told by their headers. Theirs is the revision to replace.
            let is_marker = ["KV-Operation", "Nats-Marker-Reason"].iter().any(|it| message.headers.get(*it).is_some());
            Ok(((!is_marker).then_some(message.payload), message.sequence))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok((None, 0)),
        Err(error) => Err(error),
    }
}

fn written<A>(published: Result<A, PublishError>) -> Result<bool, PublishError> {
    match published {
        Ok(_) => Ok(true),
        Err(error) if is_kv_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;
    use async_nats::jetstream::context::PublishErrorKind;

    use super::*;

    fn message(header: Option<&str>) -> StreamMessage {
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(header, "x");
        }
        let payload = Bytes::from_static(b"v");
        StreamMessage {
            subject: "$KV.b.k".into(),
            sequence: 7,
            headers,
            payload,
            time: time::OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_deletion_and_an_expiry_are_no_values_but_have_the_revision_to_replace() {
        let value = Some(Bytes::from_static(b"v"));
        assert_eq!(found(Ok(message(None))).unwrap(), (value.clone(), 7));
        assert_eq!(found(Ok(message(Some("Nats-TTL")))).unwrap(), (value, 7));
        for marker in ["KV-Operation", "Nats-Marker-Reason"] {
            assert_eq!(found(Ok(message(Some(marker)))).unwrap(), (None, 7), "{marker}");
        }
    }

    #[test]
    fn only_what_the_stream_does_not_have_is_absent() {
        let failed = |kind| found(Err(LastRawMessageError::new(kind)));
        assert_eq!(failed(LastRawMessageErrorKind::NoMessageFound).unwrap(), (None, 0));
        assert_eq!(failed(LastRawMessageErrorKind::Other).unwrap_err().kind(), LastRawMessageErrorKind::Other);
    }

    #[test]
    fn only_a_lost_race_is_told_from_a_write_as_not_written() {
        let said = |code: u64| {
            let error = serde_json::json!({ "code": 400, "err_code": code, "description": "d" });
            let error: jetstream::Error = serde_json::from_value(error).unwrap();
            written::<()>(Err(PublishError::with_source(PublishErrorKind::Other, error)))
        };
        assert!(written(Ok(())).unwrap());
        assert!(!said(10071).unwrap());
        assert!(!said(10164).unwrap());
        assert!(said(10077).is_err());
        assert!(written::<()>(Err(PublishError::new(PublishErrorKind::TimedOut))).is_err());
    }
}
