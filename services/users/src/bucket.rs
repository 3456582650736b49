//! Records of one type in a KV bucket, written by compare-and-set.

use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::StorageType;
use async_nats::jetstream::{self, kv};
use futures::TryStreamExt;
use nats_rpc::{Connection, DecodeError, KvBucket, KvError, KvHandles, RpcError, from_json, is_kv_conflict};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Replicas;

/// The largest record, in bytes.
const MAX_RECORD_BYTES: i32 = 16 * 1024;
/// Number of tries of a change that loses the race against others.
const TRIES: usize = 16;

/// A KV bucket whose values are the JSON of `T`.
///
/// Reads go to the stream's leader and never to a replica that may lag: a user who has just signed up is found. Writes
/// name the revision that they replace, so concurrent changes never overwrite each other.
// `nats_rpc_auth` has similar reads and writes for records that expire, and keeps them private: they guarantee that no
// time to live is lost. This module shows a service that uses only the public API.
pub struct Bucket<T> {
    bucket: KvBucket,
    record: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Bucket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bucket").field(&self.bucket.name()).finish()
    }
}

/// The state of a key: a record or none, and the revision that a write replaces.
struct Entry<T> {
    record: Option<T>,
    revision: u64,
}

/// Creates the bucket `name`, or updates the configuration of an existing one; its records stay.
///
/// # Errors
/// [`ProvisionError`] if the server rejects the request or does not reply.
pub async fn provision(
    jetstream: &jetstream::Context,
    name: &'static str,
    description: &'static str,
    replicas: Replicas,
) -> Result<(), ProvisionError> {
    let config = kv::Config {
        bucket: name.to_owned(),
        description: description.to_owned(),
        max_value_size: MAX_RECORD_BYTES,
        history: 1,
        storage: StorageType::File,
        num_replicas: replicas.get(),
        ..kv::Config::default()
    };
    let created = jetstream.create_or_update_key_value(config).await;
    created.map(drop).map_err(|error| ProvisionError { name, source: error.into() })
}

impl<T: Serialize + DeserializeOwned> Bucket<T> {
    /// Opens the bucket `name`.
    ///
    /// # Errors
    /// Those of [`KvBucket::open`].
    pub async fn open(connection: &Connection, name: &'static str) -> Result<Self, KvError> {
        Ok(Self { bucket: KvBucket::open(connection, name).await?, record: PhantomData })
    }

    /// Returns the record of `key`.
    ///
    /// # Errors
    /// [`RecordError`] if the bucket is unavailable, or the value is not a record.
    pub async fn get(&self, key: &str) -> Result<Option<T>, RecordError> {
        Ok(self.read(key).await?.record)
    }

    /// Returns the keys of all records, and of some removed ones, in no order.
    ///
    /// # Errors
    /// [`RecordError::Unavailable`] if the bucket is unavailable.
    pub async fn keys(&self) -> Result<Vec<String>, RecordError> {
        let subjects = self.current().await?.store.stream.info_with_subjects(self.subject(">")).await;
        let subjects = subjects.map_err(|error| RecordError::Unavailable(error.into()))?;
        let subjects: Vec<_> = subjects.try_collect().await.map_err(|error| RecordError::Unavailable(error.into()))?;
        let before = self.subject("");
        let keys = subjects.iter().filter_map(|(subject, _)| subject.strip_prefix(&before));
        Ok(keys.map(str::to_owned).collect())
    }

    /// Creates the record of `key`; returns `false` if there is one already, which stays.
    ///
    /// # Errors
    /// [`RecordError`] if the bucket is unavailable, or the race for `key` does not end.
    pub async fn create(&self, key: &str, record: &T) -> Result<bool, RecordError> {
        for _ in 0..TRIES {
            let entry = self.read(key).await?;
            if entry.record.is_some() {
                return Ok(false);
            }
            if self.write(key, record, entry.revision).await? {
                return Ok(true);
            }
        }
        Err(RecordError::Contended)
    }

    /// Replaces the record of `key` by the result of `change`; `None` if there is no record.
    ///
    /// `change` runs again with the newer record if a concurrent change came first.
    ///
    /// # Errors
    /// [`RecordError`], converted to `E`, if the bucket is unavailable or the race for `key` does not end; or the
    /// error of `change`.
    pub async fn change<E: From<RecordError>>(
        &self,
        key: &str,
        change: impl Fn(&mut T) -> Result<(), E>,
    ) -> Result<Option<T>, E> {
        for _ in 0..TRIES {
            let Entry { record: Some(mut record), revision } = self.read(key).await? else { return Ok(None) };
            change(&mut record)?;
            if self.write(key, &record, revision).await? {
                return Ok(Some(record));
            }
        }
        Err(RecordError::Contended.into())
    }

    /// Removes the present record of `key`; a concurrent change does not restore it.
    ///
    /// # Errors
    /// [`RecordError::Unavailable`] if the bucket is unavailable.
    pub async fn remove(&self, key: &str) -> Result<(), RecordError> {
        self.publish(key, purge()).await.map(drop)
    }

    /// Removes the record of `key` if `is` accepts it; any other record stays.
    ///
    /// # Errors
    /// [`RecordError`] if the bucket is unavailable, or the race for `key` does not end.
    pub async fn remove_if(&self, key: &str, is: impl Fn(&T) -> bool) -> Result<(), RecordError> {
        for _ in 0..TRIES {
            let Entry { record, revision } = self.read(key).await?;
            if !record.is_some_and(|record| is(&record)) {
                return Ok(());
            }
            if self.publish(key, purge().expected_last_subject_sequence(revision)).await? {
                return Ok(());
            }
        }
        Err(RecordError::Contended)
    }

    async fn read(&self, key: &str) -> Result<Entry<T>, RecordError> {
        let current = self.current().await?;
        let latest = current.latest(key).await.map_err(|error| RecordError::Unavailable(error.into()))?;
        let Some(latest) = latest else { return Ok(Entry { record: None, revision: 0 }) };
        let record = latest.value.map(|value| from_json(&value)).transpose();
        Ok(Entry { record: record.map_err(RecordError::Malformed)?, revision: latest.revision })
    }

    /// Replaces `revision`; returns `false` if the key has another revision.
    async fn write(&self, key: &str, record: &T, revision: u64) -> Result<bool, RecordError> {
        let value = serde_json::to_vec(record).map_err(|error| RecordError::Malformed(error.into()))?;
        let message = PublishMessage::build().payload(value.into()).expected_last_subject_sequence(revision);
        self.publish(key, message).await
    }

    /// Publishes at `key`; returns `false` if the message is bound to another revision than the present one.
    ///
    /// `Store` prefixes the subject with another account's API, but the imported subject has no prefix.
    async fn publish(&self, key: &str, message: PublishMessage) -> Result<bool, RecordError> {
        let published = match self.current().await?.jetstream.send_publish(self.subject(key), message).await {
            Ok(acknowledged) => acknowledged.await,
            Err(error) => Err(error),
        };
        match published {
            Ok(_) => Ok(true),
            Err(error) if is_kv_conflict(&error) => Ok(false),
            Err(error) => Err(RecordError::Unavailable(error.into())),
        }
    }

    async fn current(&self) -> Result<Arc<KvHandles>, RecordError> {
        self.bucket.current().await.map_err(|error| RecordError::Unavailable(error.into()))
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.bucket.name())
    }
}

/// Returns a message that removes a key and its history.
fn purge() -> PublishMessage {
    PublishMessage::build().header("KV-Operation", "PURGE").header("Nats-Rollup", "sub")
}

/// A bucket that could not be created.
#[derive(Debug, thiserror::Error)]
#[error("the KV bucket {name} cannot be created")]
#[non_exhaustive]
pub struct ProvisionError {
    /// The bucket.
    pub name: &'static str,
    /// The error of JetStream.
    pub source: Box<dyn Error + Send + Sync>,
}

/// The reason why a record was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bucket did not reply; the outcome of a write is unknown.
    #[error("the bucket is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// The value is not a record; the cause does not repeat it.
    #[error("the value is no record")]
    Malformed(#[source] DecodeError),
    /// Each try lost the race against a concurrent change.
    #[error("too many concurrent changes")]
    Contended,
}

impl From<RecordError> for RpcError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Malformed(_) => Self::internal(error),
            RecordError::Unavailable(_) | RecordError::Contended => {
                Self::unavailable("the records are unavailable").with_source(error)
            }
        }
    }
}
