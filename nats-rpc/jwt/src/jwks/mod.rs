//! The key ring in JetStream KV: public keys that instances publish, and every verifier follows.
//!
//! - [`SigningKeys`]: the key pairs of one instance. It makes them, publishes the public halves, prolongs
//!   and rotates them.
//! - [`JwksBucket`]: the bucket as operators see it: provision, list, rotate, retire.
//! - `follow`: the ring as verifiers see it, fed by the bucket.
//! - `lineup`: which keys an instance has, and what it wants to be published of them.
//! - `schedule`: what is due at a time.
//! - `watch`: the ring as verifiers see it where there is no consumer.
//! - `publisher`: the task that sees to it.

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

/// What a key of a ring signs, and nothing else; what auth says is in another bucket than what gateways say.
///
/// A service that may write a ring can make itself anybody in the eyes of those who believe that ring. A
/// gateway publishes keys for its assertions, so it may write `gw_jwks`; were its keys in `auth_jwks`,
/// permissions could not keep it from adding a key for access tokens, as KV permissions end at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyPurpose {
    /// Access tokens (`at+jwt`), by auth instances, in the bucket `auth_jwks`.
    AccessTokens,
    /// Assertions (`gw+jwt`), by gateways, in the bucket `gw_jwks`.
    Assertions,
    /// Proofs of where callers are (`peer+jwt`), by gateways, in the bucket `gw_jwks` too.
    Peers,
}

impl KeyPurpose {
    /// The bucket that holds the ring.
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

    /// Whether whoever publishes such keys may not watch the bucket, and looks the ring up instead.
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
