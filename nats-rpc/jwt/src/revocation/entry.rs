//! One thing that was revoked, as the bucket has it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys::is_sound_key_id;

/// A `sub` as entries have it: e-mail addresses and the like are no keys.
pub(crate) type SubjectDigest = [u8; 32];

/// Whose `sub` it is, for [`Target::User`].
pub(crate) fn subject_digest(sub: &str) -> SubjectDigest {
    Sha256::digest(sub).into()
}

/// The key of the epoch of all users; it is there from the beginning and stays.
const GLOBAL: &str = "realm";

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The token with this `jti`.
    Token(Box<str>),
    /// The tokens of the session with this `sid`.
    Session(Box<str>),
    /// The tokens of a user below an epoch.
    User(SubjectDigest),
    /// The tokens of everybody below an epoch.
    Global,
}

impl Target {
    /// The token `jti`; `None` if the id cannot be a key.
    pub(crate) fn token(jti: &str) -> Option<Self> {
        is_sound_key_id(jti).then(|| Self::Token(jti.into()))
    }

    /// The session `sid`; `None` if the id cannot be a key.
    pub(crate) fn session(sid: &str) -> Option<Self> {
        is_sound_key_id(sid).then(|| Self::Session(sid.into()))
    }

    /// The key in the bucket: `jti.<id>`, `sid.<id>`, `ep.<digest of sub>` or `realm`.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Token(jti) => format!("jti.{jti}"),
            Self::Session(sid) => format!("sid.{sid}"),
            Self::User(digest) => format!("ep.{}", URL_SAFE_NO_PAD.encode(digest)),
            Self::Global => GLOBAL.to_owned(),
        }
    }

    /// What `key` is about; `None` for keys of another making.
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

/// What stands at a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// Tokens of a lower epoch are revoked; only for users and the global epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
    /// When no token is left that it could concern, in seconds since 1970; never for the global epoch.
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
