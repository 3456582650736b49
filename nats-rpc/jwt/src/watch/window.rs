//! The received changes of a bucket, and a digest of those between two sequences.
//!
//! A republished message carries its sequence in a header that auth did not sign. So the sequence alone proves
//! nothing: an old valid change could be replayed under the sequence of a lost one. The digest in a beacon covers
//! sequence, key and value of all changes since an earlier beacon.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The number of stored changes; about 100 kB.
const CAPACITY: usize = 2_048;

/// The latest changes, by their sequences.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    known: BTreeMap<u64, Change>,
    /// No change up to this sequence is stored.
    floor: u64,
}

#[derive(Debug)]
struct Change {
    key: [u8; 16],
    value: [u8; 32],
}

impl Changes {
    /// Creates an empty window of a stream; no change up to `floor` is known.
    pub(crate) fn after(floor: u64) -> Self {
        Self { known: BTreeMap::new(), floor }
    }

    /// Records that `key` got `value` at `sequence`. The first record of a sequence stays.
    pub(crate) fn note(&mut self, sequence: u64, key: &str, value: &[u8]) {
        if sequence <= self.floor {
            return;
        }
        let mut short = [0; 16];
        short.copy_from_slice(&Sha256::digest(key)[..16]);
        self.known.entry(sequence).or_insert_with(|| Change { key: short, value: Sha256::digest(value).into() });
        while self.known.len() > CAPACITY {
            if let Some((sequence, _)) = self.known.pop_first() {
                self.floor = sequence;
            }
        }
    }

    /// Removes the records of the sequences after `after` up to `last`, which were read again.
    pub(crate) fn forget(&mut self, after: u64, last: u64) {
        self.known.retain(|sequence, _| !(after < *sequence && *sequence <= last));
    }

    /// Returns the digest of the last change of each key after `after`, up to and including `last`; `None` if not all
    /// of them are stored.
    ///
    /// Only the last change of a key counts, as a read of the bucket finds no other.
    pub(crate) fn digest(&self, after: u64, last: u64) -> Option<String> {
        if after < self.floor || after > last {
            return None;
        }
        let mut latest = BTreeMap::new();
        // A range that begins behind its end panics.
        for (sequence, change) in self.known.range(after.saturating_add(1)..).take_while(|(it, _)| **it <= last) {
            latest.insert(change.key, (sequence, change.value));
        }
        let mut sorted: Vec<_> = latest.iter().map(|(key, (sequence, value))| (**sequence, key, value)).collect();
        sorted.sort_unstable();
        let mut digest = Sha256::new();
        for (sequence, key, value) in sorted {
            digest.update(sequence.to_be_bytes());
            digest.update(key);
            digest.update(value);
        }
        Some(URL_SAFE_NO_PAD.encode(&digest.finalize()[..16]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(noted: &[(u64, &str, &str)]) -> Changes {
        let mut changes = Changes::default();
        noted.iter().for_each(|(sequence, key, value)| changes.note(*sequence, key, value.as_bytes()));
        changes
    }

    #[test]
    fn digest_differs_for_each_difference_within_its_bounds_alone() {
        let all = [(5, "a", "1"), (6, "b", "1"), (8, "c", "1")];
        let digest = changes(&all).digest(4, 8).unwrap();
        let mut turned = all;
        turned.reverse();
        assert_eq!(changes(&turned).digest(4, 8).as_ref(), Some(&digest), "in any order");
        let more = [&all[..], &[(4, "x", "1"), (9, "y", "1")]].concat();
        assert_eq!(changes(&more).digest(4, 8).as_ref(), Some(&digest), "what is outside does not count");
        for other in [
            vec![all[0], all[1]],
            vec![all[0], all[1], (7, "c", "1")],
            vec![all[0], all[1], (8, "d", "1")],
            vec![all[0], all[1], (8, "c", "2")],
            [&all[..], &[(7, "d", "1")]].concat(),
        ] {
            assert_ne!(changes(&other).digest(4, 8).as_ref(), Some(&digest), "{other:?}");
        }
    }

    #[test]
    fn digest_of_what_was_heard_is_that_of_what_was_read() {
        let heard = changes(&[(5, "a", "1"), (6, "b", "1"), (7, "a", "2")]);
        let read = changes(&[(6, "b", "1"), (7, "a", "2")]);
        assert_eq!(heard.digest(4, 7), read.digest(4, 7));
        assert_ne!(heard.digest(4, 6), read.digest(4, 6), "the first value of a is gone from the bucket");
    }

    #[test]
    fn nothing_is_told_of_what_is_not_remembered() {
        let mut changes = Changes::after(10);
        assert!(
            changes.digest(9, 12).is_none() && changes.digest(10, 12).is_some() && changes.digest(12, 10).is_none()
        );
        for sequence in 11..11 + CAPACITY as u64 + 5 {
            changes.note(sequence, "k", b"v");
        }
        assert!(changes.digest(14, 20).is_none() && changes.digest(15, 20).is_some());
        assert!(changes.digest(u64::MAX, u64::MAX).is_some(), "no overflow");
    }

    #[test]
    fn first_change_of_a_sequence_stays_until_that_is_read_again() {
        let mut twice = changes(&[(5, "a", "1"), (5, "b", "1")]);
        assert_eq!(twice.digest(4, 5), changes(&[(5, "a", "1")]).digest(4, 5));
        twice.forget(4, 5);
        twice.note(5, "b", b"1");
        assert_eq!(twice.digest(4, 5), changes(&[(5, "b", "1")]).digest(4, 5));
    }
}
