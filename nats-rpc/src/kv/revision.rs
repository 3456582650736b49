//! A write to a key of a KV bucket that replaces the revision that was read.

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;

use crate::connection::{KvHandles, KvReadError, is_kv_conflict};

/// Returns the value of `key` and the revision for a write to replace, as the stream's leader has them. The revision
/// is 0 if the key never had a value.
pub async fn latest(handles: &KvHandles, key: &str) -> Result<(Option<Bytes>, u64), KvReadError> {
    let record = handles.latest(key).await?;
    Ok(record.map_or((None, 0), |record| (record.value, record.revision)))
}

/// Writes `message` at `key` if its revision is `revision` (0: no value). Returns `false` if another revision is
/// there.
///
/// `Store::update` has no time to live, and would make an expiring key permanent. Here the message carries its own
/// headers. After an error, it is unknown whether the message was written.
pub async fn replace(
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

/// Returns the subject at which the values of `key` are published.
pub fn subject(store: &kv::Store, key: &str) -> String {
    format!("$KV.{}.{key}", store.name)
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
    use async_nats::jetstream::context::PublishErrorKind;

    use super::*;

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
