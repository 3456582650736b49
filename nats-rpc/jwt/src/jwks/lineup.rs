//! State machine of an instance's signing keys. Pure: no I/O, no timers.

use std::error::Error;
use std::sync::Arc;

use nats_rpc::__private::unrelated_id;
use tokio::time::Instant;

use super::KeyPurpose;
use crate::{Document, Entry, OwnKey};

/// The time for which a key stays in the ring after the end of its use, in seconds: the maximum skew of a guard.
const TRACE: u64 = 60;
/// The maximum remaining use of a key, in seconds: a week, of which instances need some 18 min.
const TERM: u64 = 7 * 24 * 60 * 60;

/// The key pairs of one instance: the active one, and the next one.
#[derive(Debug)]
pub(super) struct Lineup {
    purpose: KeyPurpose,
    issuer: String,
    instance: String,
    /// The number of seconds for which a key is published each time.
    horizon: u64,
    pub(super) active: Option<Own>,
    pub(super) next: Option<Own>,
}

/// A key pair, and its known state in the ring.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) key: Arc<OwnKey>,
    not_before: u64,
    /// The version of the first document that contains it; `None`: it was never written.
    published: Option<u64>,
    /// The end of its use in the last written document.
    pub(super) until: u64,
    /// The instant at which it was seen in the ring, as verifiers see it.
    pub(super) seen: Option<Instant>,
}

impl Lineup {
    pub(super) fn new(purpose: KeyPurpose, issuer: String, horizon: u64) -> Self {
        Self { purpose, issuer, instance: unrelated_id(), horizon, active: None, next: None }
    }

    /// Generates the next key pair.
    pub(super) fn prepare(&mut self, now: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
        let key = Arc::new(OwnKey::generate(self.purpose.token_type())?);
        self.next = Some(Own { key, not_before: now, published: None, until: 0, seen: None });
        Ok(())
    }

    /// Makes the next key pair the active one; the private half of the previous one is destroyed.
    ///
    /// The public half stays in the ring, no longer extended, at least until the last signed token expires.
    pub(super) fn promote(&mut self) -> Option<&Own> {
        self.active = Some(self.next.take()?);
        self.active.as_ref()
    }

    /// Writes the instance's keys into `document` at `now`. Removes keys that have expired, and keys whose expiry is
    /// too far ahead: other instances would otherwise keep a key that an intruder added once forever.
    ///
    /// A key that was in the ring and is no longer is not written again: an operator has retired it.
    pub(super) fn amend(&self, document: &mut Document, now: u64) {
        let latest = now.saturating_add(TERM.max(self.horizon));
        document.keys.retain(|entry| {
            let (kid, ends) = (&entry.kid, entry.not_after());
            if ends > latest {
                tracing::error!(kid, ends, "ALARM: a key that has no end in sight is taken out of the ring");
                return false;
            }
            if entry.is_weak() {
                tracing::error!(kid, "ALARM: a weak or broken key is taken out of the ring");
                return false;
            }
            ends.saturating_add(TRACE) > now
        });
        for own in self.own() {
            let entry = Entry {
                kid: own.key.kid().to_owned(),
                alg: "EdDSA".to_owned(),
                typ: self.purpose.token_type().to_owned(),
                iss: self.issuer.clone(),
                instance: Some(self.instance.clone()),
                not_before: Some(own.not_before),
                not_after: Some(now.max(own.not_before) + self.horizon),
                jwk: own.key.jwk().to_owned(),
            };
            match document.entry_mut(own.key.kid()) {
                Some(present) => *present = entry,
                None if own.published.is_none() => document.keys.push(entry),
                None => {}
            }
        }
    }

    /// Records that a document was written; returns the ids of the keys that it contains first.
    pub(super) fn written(&mut self, document: &Document) -> Vec<String> {
        let mut new = Vec::new();
        for own in [&mut self.active, &mut self.next].into_iter().flatten() {
            let Some(entry) = document.entry(own.key.kid()) else { continue };
            if own.published.replace(own.published.unwrap_or(document.version)).is_none() {
                new.push(entry.kid.clone());
            }
            own.until = entry.not_after();
        }
        new
    }

    /// Records the ring as verifiers have it; returns the ids of keys that were removed from it.
    pub(super) fn observe(&mut self, document: &Document, now: Instant) -> Vec<String> {
        let mut retired = Vec::new();
        for slot in [&mut self.active, &mut self.next] {
            let Some(own) = slot else { continue };
            if document.entry(own.key.kid()).is_some() {
                own.seen.get_or_insert(now);
            } else if own.published.is_some_and(|version| document.version >= version) {
                retired.push(own.key.kid().to_owned());
                *slot = None;
            }
        }
        retired
    }

    /// Discards a key pair if it is unknown whether it was written, as it might be retired unnoticed; returns `true`
    /// if there was one.
    pub(super) fn doubt(&mut self) -> bool {
        self.next.take_if(|own| own.published.is_none()).is_some()
    }

    /// Returns `true` if something is not in any document yet.
    pub(super) fn has_news(&self) -> bool {
        self.own().any(|own| own.published.is_none())
    }

    fn own(&self) -> impl Iterator<Item = &Own> {
        [&self.active, &self.next].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const HORIZON: u64 = 1_000;

    fn lineup() -> Lineup {
        Lineup::new(KeyPurpose::AccessTokens, "nats-rpc-auth".to_owned(), HORIZON)
    }

    /// Returns the document after `lineup` has written it.
    fn write(lineup: &mut Lineup, document: &Document, now: u64) -> Document {
        let mut document = document.clone();
        lineup.amend(&mut document, now);
        document.version += 1;
        lineup.written(&document);
        document
    }

    fn kids(document: &Document) -> Vec<&str> {
        document.keys.iter().map(|entry| entry.kid.as_str()).collect()
    }

    fn started() -> (Lineup, Document, String) {
        let mut lineup = lineup();
        lineup.prepare(NOW).unwrap();
        let document = write(&mut lineup, &Document::default(), NOW);
        assert!(lineup.observe(&document, Instant::now()).is_empty());
        let kid = lineup.promote().unwrap().key.kid().to_owned();
        (lineup, document, kid)
    }

    #[test]
    fn a_heartbeat_prolongs_the_key_and_changes_nothing_else() {
        let (mut lineup, document, kid) = started();
        let later = write(&mut lineup, &document, NOW + 60);
        assert_eq!(kids(&later), [&kid]);
        assert!(document.keys[0].outlived_by(&later.keys[0]));
        assert_eq!(later.keys[0].not_before, Some(NOW));
        assert_eq!(lineup.active.unwrap().until, NOW + 60 + HORIZON);
    }

    #[test]
    fn after_a_rotation_the_old_key_stays_until_what_it_signed_has_ended() {
        let (mut lineup, document, old) = started();
        lineup.prepare(NOW + 100).unwrap();
        let document = write(&mut lineup, &document, NOW + 100);
        let new = lineup.promote().unwrap().key.kid().to_owned();
        assert_eq!(kids(&document), [&old, &new]);
        let document = write(&mut lineup, &document, NOW + 160);
        assert_eq!(document.entry(&old).unwrap().not_after(), NOW + 100 + HORIZON, "no longer prolonged");
        let before = write(&mut lineup, &document, NOW + 100 + HORIZON + TRACE - 1);
        assert_eq!(kids(&before), [&old, &new]);
        let after = write(&mut lineup, &document, NOW + 100 + HORIZON + TRACE);
        assert_eq!(kids(&after), [&new]);
    }

    #[test]
    fn keys_of_others_stay_and_those_of_a_vanished_instance_are_pruned() {
        let (mut ours, document, kid) = started();
        let mut theirs = lineup();
        theirs.prepare(NOW).unwrap();
        let document = write(&mut theirs, &document, NOW);
        let both = write(&mut ours, &document, NOW + 900);
        assert_eq!(both.keys.len(), 2);
        let alone = write(&mut ours, &both, NOW + HORIZON + TRACE);
        assert_eq!(kids(&alone), [&kid]);
    }

    #[test]
    fn a_key_that_has_no_end_in_sight_is_taken_out_by_the_next_heartbeat_of_any_instance() {
        let (mut lineup, document, kid) = started();
        for (ends, stays) in
            [(Some(NOW + TERM), true), (Some(NOW + TERM + 1), false), (Some(u64::MAX), false), (None, false)]
        {
            let mut planted = document.clone();
            planted.keys.push(Entry { kid: "planted".to_owned(), not_after: ends, ..document.keys[0].clone() });
            let after = write(&mut lineup, &planted, NOW);
            assert_eq!(kids(&after).contains(&"planted"), stays, "{ends:?}");
            assert_eq!(kids(&after)[0], kid);
        }
        // Even if its own keys live for longer.
        let mut patient = Lineup::new(KeyPurpose::AccessTokens, "i".to_owned(), 2 * TERM);
        patient.prepare(NOW).unwrap();
        let document = write(&mut patient, &Document::default(), NOW);
        assert_eq!(write(&mut patient, &document, NOW).keys.len(), 1);
    }

    #[test]
    fn a_retired_key_is_noticed_and_never_put_back() {
        let (mut lineup, mut document, kid) = started();
        document.keys.clear();
        document.version += 1;
        let document = write(&mut lineup, &document, NOW + 1);
        assert!(document.keys.is_empty(), "a heartbeat that does not know yet");
        assert_eq!(lineup.observe(&document, Instant::now()), [kid]);
        assert!(lineup.active.is_none());
    }

    #[test]
    fn a_key_is_not_missed_in_documents_older_than_it() {
        let (mut lineup, document, _) = started();
        let older = Document { version: document.version - 1, keys: Vec::new() };
        assert!(lineup.observe(&older, Instant::now()).is_empty());
        assert!(lineup.active.is_some());
    }

    #[test]
    fn a_key_of_doubtful_fate_is_given_up() {
        let (mut lineup, document, kid) = started();
        lineup.prepare(NOW).unwrap();
        assert!(lineup.has_news());
        assert!(lineup.doubt());
        assert!(!lineup.has_news());
        assert_eq!(kids(&write(&mut lineup, &document, NOW)), [&kid]);
        assert!(!lineup.doubt(), "there is none");
        lineup.prepare(NOW).unwrap();
        write(&mut lineup, &document, NOW);
        assert!(!lineup.doubt(), "it was written");
        assert!(lineup.next.is_some());
    }
}
