//! The key ring in JetStream KV: public keys that instances publish, and that every verifier watches.
//!
//! - [`SigningKeys`]: the key pairs of one instance. It generates them, publishes the public halves, extends and
//!   rotates them.
//! - [`JwksBucket`]: the bucket as operators see it: provision, list, rotate, retire.
//! - `follow`: the ring for verifiers, watched in its bucket.
//! - `lineup`: state machine of an instance's signing keys.
//! - `schedule`: due actions of an instance.
//! - `watch`: the ring for verifiers where there is no consumer.
//! - `publisher`: the task that executes the actions.

mod bucket;
mod error;
mod follow;
mod lineup;
mod own;
mod publisher;
mod schedule;
mod watch;

pub use self::bucket::{JwksBucket, PublishedKey};
pub(super) use self::bucket::{RING, ROTATE};
pub use self::error::KeysError;
pub use self::own::{KeyEvent, SigningKeyConfig, SigningKeys};

use crate::{ACCESS_TOKEN_TYPE, ASSERTION_TYPE, PEER_TYPE};

/// The purpose of a ring's keys. Auth's keys and gateways' keys are in different buckets.
///
/// A service that may write to a ring can impersonate any user towards verifiers of that ring. A gateway publishes
/// keys for its assertions, so it may write to `gw_jwks`. If its keys were in `auth_jwks`, permissions could not
/// prevent it from adding a key for access tokens, as KV permissions cannot distinguish parts of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPurpose {
    /// Access tokens (`at+jwt`), by auth instances, in the bucket `auth_jwks`.
    AccessTokens,
    /// Assertions (`gw+jwt`), by gateways, in the bucket `gw_jwks`.
    Assertions,
    /// Proofs of client addresses (`peer+jwt`), by gateways, also in the bucket `gw_jwks`.
    Peers,
}

impl KeyPurpose {
    /// Returns the name of the bucket that holds the ring.
    pub fn bucket(self) -> &'static str {
        match self {
            Self::AccessTokens => "auth_jwks",
            Self::Assertions | Self::Peers => "gw_jwks",
        }
    }

    pub(crate) fn token_type(self) -> &'static str {
        match self {
            Self::AccessTokens => ACCESS_TOKEN_TYPE,
            Self::Assertions => ASSERTION_TYPE,
            Self::Peers => PEER_TYPE,
        }
    }

    /// Returns `true` if publishers of such keys may not watch the bucket, and read the ring periodically instead.
    fn is_looked_up(self) -> bool {
        matches!(self, Self::Assertions | Self::Peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_publishes_keys_of_gateways_looks_the_ring_up() {
        let purposes = [KeyPurpose::AccessTokens, KeyPurpose::Assertions, KeyPurpose::Peers];
        assert_eq!(purposes.map(KeyPurpose::is_looked_up), [false, true, true]);
    }
}
