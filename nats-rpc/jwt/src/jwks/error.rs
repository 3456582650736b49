use std::error::Error;
use std::time::Duration;

use nats_rpc::KvError;

use crate::follow::{NotLoaded, or_permit};
use crate::revocation::RevocationBucketError;
use crate::{JwtConfigError, KeyRingError};

/// The reason why a key ring is not available for verifying or signing, or was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] JwtConfigError),
    /// The ring is not provisioned, and there is no static secret either.
    #[error(
        "there is no key ring: the KV bucket {bucket} does not exist. Run `auth provision`, or set JWT_SECRET \
         everywhere to do without one"
    )]
    #[non_exhaustive]
    NotProvisioned {
        /// The bucket.
        bucket: &'static str,
    },
    /// JetStream does not return the bucket.
    #[error(transparent)]
    Bucket(KvError),
    /// The revocations are not available.
    #[error("{0}. Where nobody revokes anything, set JWT_CHECK_REVOCATIONS=false")]
    Revocations(#[from] RevocationBucketError),
    /// The contents of the bucket did not arrive.
    #[error(
        "the key ring in the KV bucket {bucket} did not arrive within {waited:?}; if it is empty, run `auth provision`{}",
        or_permit(.bucket)
    )]
    #[non_exhaustive]
    NotLoaded {
        /// The bucket.
        bucket: String,
        /// The time waited.
        waited: Duration,
    },
    /// JetStream did not create the bucket.
    #[error("the KV bucket {bucket} cannot be created: {source}")]
    #[non_exhaustive]
    Provision {
        /// The bucket.
        bucket: &'static str,
        /// The error of JetStream.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bucket did not reply, or rejects this user; it is unknown whether the bucket was changed.
    #[error("the key ring in the KV bucket {bucket} is unavailable: {source}")]
    #[non_exhaustive]
    Unavailable {
        /// The bucket.
        bucket: &'static str,
        /// The error of the bucket.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Each attempt lost a race against other writers; the ring was not changed.
    #[error("the key ring in the KV bucket {bucket} was changed by others at each try; try again")]
    #[non_exhaustive]
    Contended {
        /// The bucket.
        bucket: &'static str,
    },
    /// The bucket holds an invalid key document, and only an instance that has the last valid one can repair it.
    #[error(
        "the key document in the KV bucket {bucket} cannot be used: {source}; a running instance replaces \
         it, and where none runs, `auth provision` puts an empty one there"
    )]
    #[non_exhaustive]
    Document {
        /// The bucket.
        bucket: &'static str,
        /// The reason.
        source: KeyRingError,
    },
    /// The ring has no key with this id.
    #[error("no key {kid:?} is in the key ring")]
    #[non_exhaustive]
    UnknownKey {
        /// The id.
        kid: String,
    },
    /// No key pair was generated and published in time.
    #[error("no signing key came into use within {waited:?}; the log says why")]
    #[non_exhaustive]
    NoKey {
        /// The time waited.
        waited: Duration,
    },
}

impl KeysError {
    /// Creates the error of a key id that is in no ring.
    pub fn unknown_key(kid: impl Into<String>) -> Self {
        Self::UnknownKey { kid: kid.into() }
    }
}

impl From<NotLoaded> for KeysError {
    fn from(NotLoaded { bucket, waited }: NotLoaded) -> Self {
        Self::NotLoaded { bucket, waited }
    }
}
