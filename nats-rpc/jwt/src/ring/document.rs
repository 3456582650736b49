//! A key document as it is published.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::KeyRingError;
use crate::jwk;

/// By how much a version may be ahead of its revision. Beyond what instances write in years, whose count goes on
/// where a bucket was made anew.
const LEAD: u64 = 1 << 32;

/// All keys of a ring, replaced as a whole.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) version: u64,
    pub(crate) keys: Vec<Entry>,
}

/// One public key with what it may be used for. Times in seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) kid: String,
    pub(crate) alg: String,
    pub(crate) typ: String,
    pub(crate) iss: String,
    /// Who published it; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_before: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<u64>,
    pub(crate) jwk: Box<RawValue>,
}

impl Document {
    /// Whether its version can be honest where it is found at `revision` of its bucket.
    ///
    /// Each change counts both up by one, and the revision is nats-server's word and not the writer's. So however
    /// high a version somebody chooses, the next honest one is above it, for verifiers of any age.
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
    /// When its use begins; at once unless it says so.
    pub(crate) fn not_before(&self) -> u64 {
        self.not_before.unwrap_or(0)
    }

    /// When its use ends; never unless it says so.
    pub(crate) fn not_after(&self) -> u64 {
        self.not_after.unwrap_or(u64::MAX)
    }

    /// Returns `true` if its key is of a known kind and no key generation makes it, so that verifiers leave it out.
    pub(crate) fn is_weak(&self) -> bool {
        jwk::verifying_key(self).err().is_some_and(|reason| !reason.is_unknown_kind())
    }

    /// Whether whatever `self` verifies, `later` verifies too.
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
        // Whatever is taken, the next change of it is taken as well.
        assert_eq!(check(LEAD + 8, 8), Ok(()));
    }
}
