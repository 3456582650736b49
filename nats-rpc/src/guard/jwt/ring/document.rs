//! A key document as it is published.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

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

    /// Whether whatever `self` verifies, `later` verifies too.
    pub(crate) fn outlived_by(&self, later: &Self) -> bool {
        (&self.alg, &self.typ, &self.iss, self.jwk.get()) == (&later.alg, &later.typ, &later.iss, later.jwk.get())
            && later.not_before() <= self.not_before()
            && later.not_after() >= self.not_after()
    }
}
