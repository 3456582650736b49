use std::error::Error;
use std::time::Duration;

use nats_rpc::KvError;

use crate::follow::{NotLoaded, or_permit};
use crate::revocation::RevocationBucketError;
use crate::{JwtConfigError, KeyRingError};

/// Why there is no key ring to verify or to sign with, or it was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A setting cannot be used.
    #[error(transparent)]
    Config(#[from] JwtConfigError),
    /// Nobody provisioned the ring, and there is no static secret either.
    #[error(
        "there is no key ring: the KV bucket {bucket} does not exist. Run `auth provision`, or set JWT_SECRET \
         everywhere to do without one"
    )]
    #[non_exhaustive]
    NotProvisioned {
        /// The bucket.
        bucket: &'static str,
    },
    /// JetStream does not give the bucket.
    #[error(transparent)]
    Bucket(KvError),
    /// Nobody can tell what was revoked.
    #[error("{0}. Where nobody revokes anything, set JWT_CHECK_REVOCATIONS=false")]
    Revocations(#[from] RevocationBucketError),
    /// What the bucket holds did not arrive.
    #[error(
        "the key ring in the KV bucket {bucket} did not arrive within {waited:?}; if it is empty, run `auth provision`{}",
        or_permit(.bucket)
    )]
    #[non_exhaustive]
    NotLoaded {
        /// The bucket.
        bucket: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// JetStream did not create the bucket.
    #[error("the KV bucket {bucket} cannot be created: {source}")]
    #[non_exhaustive]
    Provision {
        /// The bucket.
        bucket: &'static str,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The bucket did not answer, or refuses this user; whether it was changed is unknown.
    #[error("the key ring in the KV bucket {bucket} is unavailable: {source}")]
    #[non_exhaustive]
    Unavailable {
        /// The bucket.
        bucket: &'static str,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Others changed the ring each time that it was tried; it was not changed.
    #[error("the key ring in the KV bucket {bucket} was changed by others at each try; try again")]
    #[non_exhaustive]
    Contended {
        /// The bucket.
        bucket: &'static str,
    },
    /// What is in the bucket is no key document, and only an instance that knows the last good one can mend it.
    #[error(
        "the key document in the KV bucket {bucket} cannot be used: {source}; a running instance replaces \
         it, and where none runs, `auth provision` puts an empty one there"
    )]
    #[non_exhaustive]
    Document {
        /// The bucket.
        bucket: &'static str,
        /// Why.
        source: KeyRingError,
    },
    /// The ring has no key of this id.
    #[error("no key {kid:?} is in the key ring")]
    #[non_exhaustive]
    UnknownKey {
        /// The id.
        kid: String,
    },
    /// No key pair could be made and published in time.
    #[error("no signing key came into use within {waited:?}; the log says why")]
    #[non_exhaustive]
    NoKey {
        /// How long it was waited for.
        waited: Duration,
    },
}

impl KeysError {
    /// That no ring has a key of this id.
    pub fn unknown_key(kid: impl Into<String>) -> Self {
        Self::UnknownKey { kid: kid.into() }
    }
}

impl From<NotLoaded> for KeysError {
    fn from(NotLoaded { bucket, waited }: NotLoaded) -> Self {
        Self::NotLoaded { bucket, waited }
    }
}
