//! The content of a beacon, and its form on the wire.
//!
//! `<key id>.<signature>.<JSON>`: the first two in base64url, the key id empty with a static secret. The signed text
//! is the line `nats-rpc beacon 1` and the JSON as sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DetachedSigner;
use crate::{DetachedVerifier, SignatureError};

/// The subject of beacons.
pub(super) const SUBJECT: &str = "watch.auth_beacon";
/// The subject of requests for a beacon out of turn.
pub(super) const ASK: &str = "watch.auth_beacon.ask";
const KIND: &[u8] = b"nats-rpc beacon 1\n";

/// The progress of the buckets at a point in time, as an auth instance read it from their leaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The time of the requests to the leaders, by auth's clock, in milliseconds since 1970.
    pub(crate) at: u64,
    /// Keyed by the name of the bucket.
    pub(crate) buckets: BTreeMap<String, Progress>,
}

/// The progress of one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The creation time of its stream, in nanoseconds since 1970; it distinguishes streams of one name.
    pub(crate) created: i64,
    /// The last sequence of the stream.
    pub(crate) last: u64,
    /// Of a key ring: the last sequence at which a key was added or removed, or a rotation was requested. Later
    /// changes only extend keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<u64>,
    /// Of the revocations: the changes since an earlier beacon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<Window>,
}

/// The changes after one sequence, up to and including the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    pub(crate) after: u64,
    pub(crate) digest: String,
}

/// The reason why a beacon is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReportError {
    #[error("it is not a beacon")]
    Malformed,
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

impl Report {
    /// Returns the signed beacon, or `None` while no key is published.
    pub(super) fn signed(&self, signer: &DetachedSigner) -> Result<Option<Vec<u8>>, serde_json::Error> {
        let json = serde_json::to_vec(self)?;
        let signed = signer.sign(&[KIND, &json].concat(), self.at / 1_000);
        Ok(signed.map(|(kid, signature)| [format!("{kid}.{signature}.").as_bytes(), &json].concat()))
    }

    /// Parses and verifies a beacon of auth, at `now` in seconds since 1970.
    pub(super) fn verified(beacon: &[u8], verifier: &DetachedVerifier, now: u64) -> Result<Self, ReportError> {
        let mut parts = beacon.splitn(3, |byte| *byte == b'.');
        let mut text = || parts.next().and_then(|part| std::str::from_utf8(part).ok()).ok_or(ReportError::Malformed);
        let (kid, signature, json) = (text()?, text()?, text()?);
        verifier.verify(kid, signature, &[KIND, json.as_bytes()].concat(), now)?;
        serde_json::from_str(json).map_err(|_| ReportError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn beacon_is_read_only_as_it_was_signed() {
        let secret = SecretKey::new("A", [1; 32]).unwrap();
        let window = Some(Window { after: 5, digest: "d".to_owned() });
        let progress = Progress { created: -1, last: 7, changed: None, window };
        let report = Report { at: 1_800_000_000_000, buckets: [("auth_rev".to_owned(), progress)].into() };
        let beacon = report.signed(&DetachedSigner::secret(&secret)).unwrap().unwrap();
        let read = |beacon: &[u8]| Report::verified(beacon, &DetachedVerifier::secret(&secret), 1_800_000_000);
        assert_eq!(read(&beacon).unwrap(), report);
        let text = String::from_utf8(beacon).unwrap();
        for changed in [text.replace(":7", ":8"), text.replace("\"d\"", "\"e\""), text.replacen('.', "k.", 1)] {
            assert_eq!(read(changed.as_bytes()), Err(SignatureError::Invalid.into()), "{changed}");
        }
        for none in ["", ".", "a.b", &text[text.find('{').unwrap()..]] {
            assert!(read(none.as_bytes()).is_err(), "{none}");
        }
    }
}
