//! The bucket `auth_rev`.

use std::error::Error;
use std::time::Duration;

use nats_rpc::KvError;

use crate::KeysError;
use crate::follow::or_permit;

/// The bucket's name.
pub(crate) const BUCKET: &str = "auth_rev";

/// The reason why revocations cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationBucketError {
    /// The bucket does not exist, or JetStream does not return it.
    #[error(transparent)]
    Bucket(#[from] KvError),
    /// It was created without limit markers, so that revocations would never expire.
    #[error("the KV bucket {BUCKET} has no limit markers, so its revocations would never expire; run `provision`")]
    NoTtl,
    /// The contents of the bucket did not arrive.
    #[error(
        "what the KV bucket {BUCKET} holds did not arrive within {waited:?}; if it is empty, run `provision`{}",
        or_permit(BUCKET)
    )]
    #[non_exhaustive]
    NotLoaded {
        /// The time waited.
        waited: Duration,
    },
    /// The keys that sign changes are not available. Applies if auth has its own account.
    #[error("the keys that sign revocations are not known: {0}")]
    Keys(#[source] Box<KeysError>),
    /// JetStream rejected the creation.
    #[error("the KV bucket {BUCKET} cannot be created")]
    Provision(#[source] Box<dyn Error + Send + Sync>),
}
