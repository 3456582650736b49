//! A session's id: in tokens, and as a key of the bucket.

use std::error::Error;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The number of bytes of an id that identify the user.
const USER_BYTES: usize = 6;
/// Their length in base64url, without a remainder.
const USER_CHARACTERS: usize = USER_BYTES * 4 / 3;

/// A session's id; 22 characters of base64url in access tokens.
///
/// It begins with a digest of the user's id, so that a user's sessions are found by their keys, without an index that
/// could be inconsistent. The other 80 bits are random; no part is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionId(pub(super) [u8; 16]);

impl SessionId {
    pub(super) fn random(user: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut id = [0; 16];
        let (of_user, random) = id.split_at_mut(USER_BYTES);
        of_user.copy_from_slice(&digest(user));
        // The error of `getrandom` is an error number of the operating system; its text is complete.
        getrandom::fill(random).map_err(|error| error.to_string())?;
        Ok(Self(id))
    }

    /// Parses an id in the form of access tokens; returns `None` for anything else, so that it is safe in a key.
    pub(super) fn parse(id: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(id).ok()?.try_into().ok().map(Self)
    }

    /// Returns the session's key in the bucket.
    pub(super) fn key(self) -> String {
        let mut key = self.to_string();
        key.insert(USER_CHARACTERS, '.');
        key
    }

    /// Returns the session with this key.
    pub(super) fn from_key(key: &str) -> Option<Self> {
        Self::parse(&key.replacen('.', "", 1))
    }

    /// Returns a filter for the keys of all sessions of `user`. It matches another user's sessions with a probability
    /// of 1 in 2^48.
    pub(super) fn keys_of(user: &str) -> String {
        format!("{}.*", URL_SAFE_NO_PAD.encode(digest(user)))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

fn digest(user: &str) -> [u8; USER_BYTES] {
    let mut start = [0; USER_BYTES];
    start.copy_from_slice(&Sha256::digest(user)[..USER_BYTES]);
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sessions_of_a_user_are_found_by_their_keys() {
        let [one, two, other] = ["u1", "u1", "u2"].map(|user| SessionId::random(user).unwrap());
        let filter = SessionId::keys_of("u1");
        let is_of = |id: SessionId| id.key().starts_with(filter.strip_suffix('*').unwrap());
        assert!(one != two && is_of(one) && is_of(two) && !is_of(other));
        for id in [one, two, other] {
            assert_eq!(SessionId::from_key(&id.key()), Some(id));
            assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for wrong in ["", "*", ">", "AAAAAAAA.AAAAAAAAAAAAAA", &"A".repeat(21), &"A".repeat(23), &"é".repeat(11), "a b"]
        {
            assert_eq!(SessionId::parse(wrong), None, "{wrong}");
        }
        assert!(SessionId::parse(&"A".repeat(22)).is_some());
        // Unused bits that are not zero would allow a second spelling.
        assert_eq!(SessionId::parse(&format!("{}B", "A".repeat(21))), None);
    }
}
