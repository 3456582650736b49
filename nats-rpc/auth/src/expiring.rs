//! KV records that are written by compare-and-set and expire.

use std::error::Error;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use nats_rpc::kv::revision;
use nats_rpc::{Connection, KvBucket, KvError, KvHandles, RpcError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The lifetime of the marker of a removed record.
const MARKER_TTL: Duration = Duration::from_secs(60);
const MAX_RECORD_BYTES: i32 = 1024;

/// A bucket of `T`s with a time to live that every write sets anew.
///
/// `Store::update` of async-nats has no time to live and makes an expiring key permanent; `create_with_ttl` does the
/// same on an existing key. Here every write is one publish with both the revision that it replaces and the time to
/// live.
pub(super) struct Expiring<T> {
    bucket: KvBucket,
    record: PhantomData<fn() -> T>,
}

/// The value of a key, and the revision that a write replaces.
pub(super) struct Entry<T> {
    pub(super) record: Option<T>,
    pub(super) revision: u64,
}

/// The reason why a bucket of expiring records is not usable, or did not reply.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpiringError {
    /// It does not exist, or JetStream does not return it.
    #[error(transparent)]
    Bucket(#[from] KvError),
    /// It was created without limit markers, so that its records would never be removed.
    #[error("the KV bucket {name} has no limit markers, so its records would never expire; run `provision`")]
    #[non_exhaustive]
    NoTtl {
        /// The bucket.
        name: &'static str,
    },
    /// JetStream rejected the creation.
    #[error("the KV bucket {name} cannot be created")]
    #[non_exhaustive]
    Provision {
        /// The bucket.
        name: &'static str,
        /// The error of JetStream.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It did not reply; it is unknown whether a write took place.
    #[error("the KV bucket did not answer")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
}

impl From<ExpiringError> for RpcError {
    fn from(error: ExpiringError) -> Self {
        Self::unavailable("the records are unavailable").with_source(error)
    }
}

impl<T: Serialize + DeserializeOwned> Expiring<T> {
    pub(super) async fn provision(
        jetstream: &jetstream::Context,
        name: &'static str,
        description: &str,
        replicas: usize,
    ) -> Result<(), ExpiringError> {
        let config = kv::Config {
            bucket: name.to_owned(),
            description: description.to_owned(),
            max_value_size: MAX_RECORD_BYTES,
            num_replicas: replicas,
            limit_markers: Some(MARKER_TTL),
            ..kv::Config::default()
        };
        let created = jetstream.create_or_update_key_value(config).await;
        created.map(drop).map_err(|error| ExpiringError::Provision { name, source: error.into() })
    }

    pub(super) async fn open(connection: &Connection, name: &'static str) -> Result<Self, ExpiringError> {
        let bucket = KvBucket::open(connection, name).await?;
        if !bucket.current().await?.store.stream.cached_info().config.allow_message_ttl {
            return Err(ExpiringError::NoTtl { name });
        }
        Ok(Self { bucket, record: PhantomData })
    }

    /// Returns the value of `key` from the stream's leader.
    ///
    /// A record that an updated program cannot parse counts as absent: losing an expiring record is acceptable.
    pub(super) async fn read(&self, key: &str) -> Result<Entry<T>, ExpiringError> {
        let current = self.current().await?;
        let latest = revision::latest(&current, key).await;
        let (value, revision) = latest.map_err(|error| ExpiringError::Unavailable(error.into()))?;
        Ok(Entry { record: value.and_then(|value| serde_json::from_slice(&value).ok()), revision })
    }

    /// Writes over `revision` (0: no record), for `ttl` rounded up to whole seconds; returns `false` if the bucket has
    /// another revision.
    pub(super) async fn write(
        &self,
        key: &str,
        record: &T,
        revision: u64,
        ttl: Duration,
    ) -> Result<bool, ExpiringError> {
        let value = serde_json::to_vec(record).map_err(|error| ExpiringError::Unavailable(error.into()))?;
        let ttl = Duration::from_secs(ttl.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX).max(1));
        let message = PublishMessage::build().payload(value.into()).ttl(ttl);
        let current = self.current().await?;
        let written = revision::replace(&current.jetstream, &current.store, key, message, revision).await;
        written.map_err(|error| ExpiringError::Unavailable(error.into()))
    }

    /// Removes a record of any revision.
    pub(super) async fn remove(&self, key: &str) -> Result<(), ExpiringError> {
        let removed = self.current().await?.store.purge_with_ttl(key, MARKER_TTL).await;
        removed.map_err(|error| ExpiringError::Unavailable(error.into()))
    }

    async fn current(&self) -> Result<Arc<KvHandles>, ExpiringError> {
        Ok(self.bucket.current().await?)
    }
}

impl<T> std::fmt::Debug for Expiring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expiring").field(&self.bucket.name()).finish()
    }
}
