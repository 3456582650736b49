//! The bucket `auth_rev`.

use std::error::Error;
use std::time::Duration;

use nats_rpc::KvError;

use crate::KeysError;
use crate::follow::or_permit;

/// The bucket's name.
pub(crate) const BUCKET: &str = "auth_rev";

/// Why revocations cannot be known, or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationBucketError {
    /// The bucket does not exist, or JetStream does not give it.
    #[error(transparent)]
    Bucket(#[from] KvError),
    /// It was created without limit markers, so that revocations would stay for ever.
    #[error("the KV bucket {BUCKET} has no limit markers, so its revocations would never expire; run `provision`")]
    NoTtl,
    /// What it holds did not arrive.
    #[error(
        "what the KV bucket {BUCKET} holds did not arrive within {waited:?}; if it is empty, run `provision`{}",
        or_permit(BUCKET)
    )]
    #[non_exhaustive]
    NotLoaded {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The keys that sign changes cannot be known, where auth has an account of its own.
    #[error("the keys that sign revocations are not known: {0}")]
    Keys(#[source] Box<KeysError>),
    /// JetStream did not create it.
    #[error("the KV bucket {BUCKET} cannot be created")]
    Provision(#[source] Box<dyn Error + Send + Sync>),
}
