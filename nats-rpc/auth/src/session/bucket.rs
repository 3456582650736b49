//! The KV bucket of sessions: compare-and-set with a time to live that survives it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use futures::{StreamExt, TryStreamExt, stream};
use nats_rpc::kv::revision;
use nats_rpc::{Connection, KvBucket, KvError, KvHandles, from_json};

use super::error::SessionError;
use super::id::SessionId;
use super::record::Record;

const BUCKET: &str = "auth_sess";
const SUBJECTS: &str = "$KV.auth_sess.";
/// The lifetime of the marker of an expired session.
const MARKER_TTL: Duration = Duration::from_secs(60);
/// The lifetime of the marker of an ended one. It has no readers, and a listing of a user's sessions must skip it.
const ENDED_TTL: Duration = Duration::from_secs(1);
/// The number of records read concurrently.
const READS: usize = 16;
const MAX_RECORD_BYTES: i32 = 4096;

/// The reason why the bucket of sessions is not usable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionBucketError {
    /// It does not exist, or JetStream does not return it.
    #[error(transparent)]
    Bucket(#[from] KvError),
    /// It was created without limit markers, so that sessions would never be removed.
    #[error("the KV bucket {BUCKET} has no limit markers, so its sessions would never expire; run `provision`")]
    NoTtl,
    /// JetStream rejected the creation.
    #[error("the KV bucket {BUCKET} cannot be created")]
    Provision(#[source] Box<dyn Error + Send + Sync>),
}

#[derive(Debug)]
pub(super) struct Bucket(KvBucket);

/// The result of a write that is bound to a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    Done,
    /// The bucket has another revision.
    Conflict,
}

impl Bucket {
    pub(super) async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), SessionBucketError> {
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "sessions; digests of refresh tokens, no secrets".to_owned(),
            max_value_size: MAX_RECORD_BYTES,
            num_replicas: replicas,
            limit_markers: Some(MARKER_TTL),
            ..kv::Config::default()
        };
        let created = jetstream.create_or_update_key_value(config).await;
        created.map(drop).map_err(|error| SessionBucketError::Provision(error.into()))
    }

    pub(super) async fn open(connection: &Connection) -> Result<Self, SessionBucketError> {
        let bucket = KvBucket::open(connection, BUCKET).await?;
        if !bucket.current().await?.store.stream.cached_info().config.allow_message_ttl {
            return Err(SessionBucketError::NoTtl);
        }
        Ok(Self(bucket))
    }

    /// Returns the bucket on the present client.
    async fn current(&self) -> Result<Arc<KvHandles>, SessionError> {
        self.0.current().await.map_err(|error| SessionError::Unavailable(error.into()))
    }

    /// Returns the record of a session with its revision, from the stream's leader.
    ///
    /// A replica that is behind would make the newest token look forged, and log its owner out.
    pub(super) async fn read(&self, id: SessionId) -> Result<Option<(Record, u64)>, SessionError> {
        let latest = revision::latest(&*self.current().await?, &id.key()).await;
        let (value, revision) = latest.map_err(|error| SessionError::Unavailable(error.into()))?;
        let Some(value) = value else { return Ok(None) };
        let record = from_json(&value).map_err(|error| SessionError::Unavailable(error.into()))?;
        Ok(Some((record, revision)))
    }

    /// Writes a record over `revision` (0: no record), with a time to live until the session expires.
    pub(super) async fn write(
        &self,
        id: SessionId,
        record: &Record,
        revision: u64,
        now: u64,
    ) -> Result<Write, SessionError> {
        let value = serde_json::to_vec(record).map_err(|error| SessionError::Unavailable(error.into()))?;
        // The server accepts whole seconds only; one more, so that the record outlives its own expiry.
        let ttl = Duration::from_secs(record.expiry().saturating_sub(now).div_ceil(1000).saturating_add(1));
        let message = PublishMessage::build().payload(value.into()).ttl(ttl);
        let current = self.current().await?;
        match revision::replace(&current.jetstream, &current.store, &id.key(), message, revision).await {
            Ok(true) => Ok(Write::Done),
            Ok(false) => Ok(Write::Conflict),
            Err(error) => Err(SessionError::Unavailable(error.into())),
        }
    }

    /// Removes a record of any revision, so that every write bound to a revision fails from now on.
    pub(super) async fn remove(&self, id: SessionId) -> Result<(), SessionError> {
        let removed = self.current().await?.store.purge_with_ttl(id.key(), ENDED_TTL).await;
        removed.map_err(|error| SessionError::Unavailable(error.into()))
    }

    async fn read_as(&self, id: SessionId) -> Result<Option<(SessionId, Record)>, SessionError> {
        Ok(self.read(id).await?.map(|(record, _)| (id, record)))
    }

    /// Returns all sessions of `user` in the bucket, from the stream's leader.
    pub(super) async fn of_user(&self, user: &str) -> Result<Vec<(SessionId, Record)>, SessionError> {
        let filter = format!("{SUBJECTS}{}", SessionId::keys_of(user));
        let listed = self.current().await?.store.stream.info_with_subjects(filter).await;
        let subjects = listed.map_err(|error| SessionError::Unavailable(error.into()))?;
        let subjects: Vec<_> = subjects.try_collect().await.map_err(|error| SessionError::Unavailable(error.into()))?;
        let mut reads = Vec::with_capacity(subjects.len());
        for (subject, _) in &subjects {
            let id = subject.strip_prefix(SUBJECTS).and_then(SessionId::from_key);
            reads.extend(id.map(|id| self.read_as(id)));
        }
        let found: Vec<_> = stream::iter(reads).buffer_unordered(READS).try_collect().await?;
        Ok(found.into_iter().flatten().filter(|(_, record)| record.owner.user == user).collect())
    }
}
