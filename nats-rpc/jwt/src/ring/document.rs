//! A key document as published.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::KeyRingError;
use crate::jwk;

/// The maximum lead of a version over its revision. It exceeds the writes of many years, as versions continue when a
/// bucket is recreated.
const LEAD: u64 = 1 << 32;

/// All keys of a ring, replaced as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) version: u64,
    pub(crate) keys: Vec<Entry>,
}

/// One public key with its permitted use. Times in seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kid: String,
    pub(crate) alg: String,
    pub(crate) typ: String,
    pub(crate) iss: String,
    /// The instance that published it; for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<u64>,
    pub(crate) jwk: Box<RawValue>,
}

impl Document {
    /// Checks that its version is plausible for `revision` of its bucket.
    ///
    /// Each change increments both, and nats-server sets the revision, not the writer. So however high a version an
    /// attacker writes, the next honest one is above it, for verifiers of any age.
    pub(crate) fn check_version(&self, revision: u64) -> Result<(), KeyRingError> {
        if self.version > revision.saturating_add(LEAD) {
            return Err(KeyRingError::Version { found: self.version, revision });
        }
        Ok(())
    }

    pub(crate) fn entry(&self, kid: &str) -> Option<&Entry> {
        self.keys.iter().find(|entry| entry.kid == kid)
    }

    pub(crate) fn entry_mut(&mut self, kid: &str) -> Option<&mut Entry> {
        self.keys.iter_mut().find(|entry| entry.kid == kid)
    }
}

impl Entry {
    /// Returns the start of its use; without one, the key may be used at once.
    pub(crate) fn not_before(&self) -> u64 {
        self.not_before.unwrap_or(0)
    }

    /// Returns the end of its use; without one, the use never ends.
    pub(crate) fn not_after(&self) -> u64 {
        self.not_after.unwrap_or(u64::MAX)
    }

    /// Returns `true` if its key is of a known kind and no key generation produces it, so that verifiers omit it.
    pub(crate) fn is_weak(&self) -> bool {
        jwk::verifying_key(self).err().is_some_and(|reason| !reason.is_unknown_kind())
    }

    /// Returns `true` if `later` verifies every token that `self` verifies.
    pub(crate) fn outlived_by(&self, later: &Self) -> bool {
        (&self.alg, &self.typ, &self.iss, self.jwk.get()) == (&later.alg, &later.typ, &later.iss, later.jwk.get())
            && later.not_before() <= self.not_before()
            && later.not_after() >= self.not_after()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_is_far_ahead_of_its_revision_leaves_no_room_and_is_none() {
        let check = |version, revision| Document { version, keys: Vec::new() }.check_version(revision);
        for (version, revision) in [(0, 0), (7, 7), (3, 40), (LEAD + 7, 7), (u64::MAX, u64::MAX)] {
            assert_eq!(check(version, revision), Ok(()), "{version} at {revision}");
        }
        for (version, revision) in [(LEAD + 1, 0), (LEAD + 8, 7), (u64::MAX, 7)] {
            let refused = KeyRingError::Version { found: version, revision };
            assert_eq!(check(version, revision), Err(refused), "{version} at {revision}");
        }
        // If a document is accepted, so is the next change of it.
        assert_eq!(check(LEAD + 8, 8), Ok(()));
    }
}
