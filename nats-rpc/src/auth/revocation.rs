//! Revocations on their way: from whoever revokes, by way of a KV bucket, into the memory of every service.

mod bucket;
mod proof;
mod replica;
#[cfg(feature = "auth")]
mod revoker;
mod signed;
mod watch;

pub use self::bucket::RevocationBucketError;
pub(super) use self::replica::DEFAULT_MAX_STALE;
#[cfg(feature = "auth")]
pub use self::revoker::{RevocationError, Revoker};
#[cfg(feature = "auth")]
pub(super) use self::{bucket::BUCKET, watch::CHANGES};
