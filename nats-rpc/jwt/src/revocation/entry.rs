//! One revocation, as stored in the bucket.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::is_sound_key_id;

/// A `sub` as stored in entries: e-mail addresses and the like are not valid keys.
pub(crate) type SubjectDigest = [u8; 32];

/// Returns the digest of `sub`, for [`Target::User`].
pub(crate) fn subject_digest(sub: &str) -> SubjectDigest {
    Sha256::digest(sub).into()
}

/// The key of the global epoch; provisioning creates it, and it is permanent.
const GLOBAL: &str = "realm";

/// The target of a revocation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The token with this `jti`.
    Token(Box<str>),
    /// The tokens of the session with this `sid`.
    Session(Box<str>),
    /// The tokens of a user below an epoch.
    User(SubjectDigest),
    /// The tokens of all users below an epoch.
    Global,
}

impl Target {
    /// Returns the target of the token `jti`, or `None` if the id is not a valid key.
    pub(crate) fn token(jti: &str) -> Option<Self> {
        is_sound_key_id(jti).then(|| Self::Token(jti.into()))
    }

    /// Returns the target of the session `sid`, or `None` if the id is not a valid key.
    pub(crate) fn session(sid: &str) -> Option<Self> {
        is_sound_key_id(sid).then(|| Self::Session(sid.into()))
    }

    /// Returns the key in the bucket: `jti.<id>`, `sid.<id>`, `ep.<digest of sub>` or `realm`.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Token(jti) => format!("jti.{jti}"),
            Self::Session(sid) => format!("sid.{sid}"),
            Self::User(digest) => format!("ep.{}", URL_SAFE_NO_PAD.encode(digest)),
            Self::Global => GLOBAL.to_owned(),
        }
    }

    /// Returns the target of `key`, or `None` for keys of other formats.
    pub(crate) fn from_key(key: &str) -> Option<Self> {
        if key == GLOBAL {
            return Some(Self::Global);
        }
        match key.split_once('.')? {
            ("jti", id) => Self::token(id),
            ("sid", id) => Self::session(id),
            ("ep", digest) => Some(Self::User(URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()?)),
            _ => None,
        }
    }
}

/// The value of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Tokens of a lower epoch are revoked; only for users and the global epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    /// The time after which it can concern no valid token, in seconds since 1970; none for the global epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_from_its_key() {
        let targets = [
            Target::token("j-1_A").unwrap(),
            Target::session("s1").unwrap(),
            Target::User(subject_digest("ada@example.com")),
            Target::Global,
        ];
        for target in targets {
            assert_eq!(Target::from_key(&target.key()).as_ref(), Some(&target), "{target:?}");
        }
        for other in ["", "sid", "sid.", "sid.a.b", "jti.*", "ep.AAAA", "ep.", "Realm", "other.x"] {
            assert_eq!(Target::from_key(other), None, "{other}");
        }
    }

    #[test]
    fn an_id_that_would_be_a_pattern_is_no_key() {
        for id in ["*", ">", "a.b", "a b", "", &"a".repeat(65)] {
            assert!(Target::session(id).is_none() && Target::token(id).is_none(), "{id}");
        }
    }
}
