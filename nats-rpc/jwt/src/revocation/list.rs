//! The revocations, and the time at which the list was last proved complete.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::entry::{SubjectDigest, Target, Terms};
use super::{Epochs, MAX_REVOCABLE_LIFETIME, Marks};
use crate::clock::Clock;

/// The time to keep an entry that is not removed from its bucket: the maximum lifetime of a token, plus the skew of a
/// guard and an issuer.
const KEEP: Duration = MAX_REVOCABLE_LIFETIME.saturating_add(Duration::from_secs(2 * 60));

/// Written by the watcher of the bucket, read by every request.
#[derive(Debug)]
pub(crate) struct DenyList {
    max_stale: Duration,
    clock: Clock,
    began: Instant,
    /// Milliseconds after `began`, plus one; 0: never.
    fresh_at: AtomicU64,
    told_stale: AtomicBool,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tokens: Entries<Box<str>>,
    sessions: Entries<Box<str>>,
    users: Entries<SubjectDigest>,
    global_epoch: u64,
    /// Counts the complete reads of the bucket.
    reading: u64,
    /// `true` until the present read is complete.
    is_being_read: bool,
}

#[derive(Debug)]
struct Entries<K>(HashMap<K, Entry, RandomState>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Tokens of a lower epoch are revoked; for tokens and sessions, all are.
    epoch: u64,
    /// The instant at which it was last received; `None` for entries that stay until they are removed from the bucket.
    seen: Option<Instant>,
    /// The read in which it was last received.
    reading: u64,
}

impl DenyList {
    /// Creates an empty list that was never proved complete; it is stale if the last proof is older than `max_stale`.
    pub(crate) fn new(max_stale: Duration) -> Self {
        Self::by(Clock::default(), max_stale)
    }

    /// Creates a list like [`new`](Self::new), with the clock of a test.
    pub(crate) fn by(clock: Clock, max_stale: Duration) -> Self {
        Self {
            max_stale,
            began: clock.steady(),
            clock,
            fresh_at: AtomicU64::new(0),
            told_stale: AtomicBool::new(false),
            known: RwLock::default(),
        }
    }

    pub(super) fn revokes(&self, marks: &Marks) -> bool {
        self.read(|known| {
            let listed = |entries: &Entries<Box<str>>, id: &Option<String>| {
                id.as_deref().is_some_and(|id| entries.get(id).is_some())
            };
            let below = |epochs: Epochs| {
                epochs.global_epoch < known.global_epoch
                    || known.users.get(&epochs.subject).is_some_and(|entry| epochs.user < entry.epoch)
            };
            listed(&known.sessions, &marks.sid) || listed(&known.tokens, &marks.jti) || marks.epochs.is_some_and(below)
        })
    }

    /// Adds a revocation. An existing one never becomes weaker.
    pub(crate) fn put(&self, target: Target, terms: Terms) {
        self.write(|known| {
            // An unreadable entry revokes every token that it can concern, until it is removed from the bucket.
            let seen = terms.until.map(|_| self.clock.steady());
            let entry = |epoch| Entry { epoch, seen, reading: known.reading };
            match target {
                Target::Token(jti) => known.tokens.put(jti, entry(0)),
                Target::Session(sid) => known.sessions.put(sid, entry(0)),
                Target::User(subject) => known.users.put(subject, entry(terms.epoch.unwrap_or(u64::MAX))),
                Target::Global => known.global_epoch = known.global_epoch.max(terms.epoch.unwrap_or_default()),
            }
        });
    }

    /// Removes a revocation that was removed from the bucket. A global epoch stays for good.
    ///
    /// Ignored during a read: the delivering replica may be behind, and report a removal from before the present
    /// entry.
    pub(crate) fn remove(&self, target: &Target) {
        self.write(|known| match target {
            _ if known.is_being_read => {}
            Target::Token(jti) => known.tokens.remove(jti),
            Target::Session(sid) => known.sessions.remove(sid),
            Target::User(subject) => known.users.remove(subject),
            Target::Global => {}
        });
    }

    /// Begins a read. Entries that are not added again are removed by [`loaded`](Self::loaded).
    pub(crate) fn begin(&self) {
        self.write(|known| (known.reading, known.is_being_read) = (known.reading + 1, true));
    }

    /// Ends a read: all entries have been added since [`begin`](Self::begin).
    pub(crate) fn loaded(&self) {
        self.write(|known| {
            let reading = known.reading;
            known.is_being_read = false;
            known.retain(|entry| entry.reading >= reading);
        });
    }

    /// Evicts entries that can concern no valid token, in case their removal from the bucket was missed.
    ///
    /// An entry's own time limit refers to the wall clock, which may step forward and back: an entry evicted by it
    /// would not return.
    pub(crate) fn sweep(&self) {
        let now = self.clock.steady();
        let is_over = |entry: &Entry| entry.seen.is_some_and(|seen| now.saturating_duration_since(seen) > KEEP);
        if self.read(|known| known.any(is_over)) {
            self.write(|known| known.retain(|entry| !is_over(entry)));
        }
    }

    /// Records that the list was complete at `moment`.
    pub(crate) fn confirm(&self, moment: Instant) {
        let millis = moment.saturating_duration_since(self.began).as_millis();
        self.fresh_at.fetch_max(u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
        if !self.is_stale(Instant::now()) && self.told_stale.swap(false, Ordering::Relaxed) {
            tracing::info!("revocations are up to date again");
        }
    }

    pub(crate) fn age(&self, now: Instant) -> Option<Duration> {
        let fresh_at = self.fresh_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.began + Duration::from_millis(fresh_at)))
    }

    pub(super) fn max_stale(&self) -> Duration {
        self.max_stale
    }

    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        self.age(now).is_none_or(|age| age > self.max_stale)
    }

    /// Logs once that guards check tokens against a stale list.
    pub(super) fn tell_stale(&self) {
        if !self.told_stale.swap(true, Ordering::Relaxed) {
            tracing::error!(
                age = ?self.age(Instant::now()),
                "nothing proves that all revocations are known: guards refuse, or accept what may be revoked"
            );
        }
    }

    pub(super) fn len(&self) -> usize {
        self.read(|known| known.tokens.0.len() + known.sessions.0.len() + known.users.0.len())
    }

    pub(super) fn epochs(&self, subject: SubjectDigest) -> Epochs {
        let user = |known: &Known| known.users.get(&subject).map_or(0, |entry| entry.epoch);
        self.read(|known| Epochs { subject, user: user(known), global_epoch: known.global_epoch })
    }

    pub(super) fn global_epoch(&self) -> u64 {
        self.read(|known| known.global_epoch)
    }

    // A panic while the lock was held leaves no map half-changed, so poison is harmless.

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Known {
    fn any(&self, wanted: impl Fn(&Entry) -> bool) -> bool {
        self.tokens.0.values().any(&wanted)
            || self.sessions.0.values().any(&wanted)
            || self.users.0.values().any(&wanted)
    }

    fn retain(&mut self, wanted: impl Fn(&Entry) -> bool) {
        self.tokens.retain(&wanted);
        self.sessions.retain(&wanted);
        self.users.retain(&wanted);
    }
}

impl<K: Eq + Hash> Entries<K> {
    fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Entry>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    fn put(&mut self, key: K, entry: Entry) {
        let known = self.0.entry(key).or_insert(entry);
        known.epoch = known.epoch.max(entry.epoch);
        // An entry without an end stays without an end.
        known.seen = known.seen.and(entry.seen);
        known.reading = entry.reading;
    }

    fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.0.remove(key);
    }

    fn retain(&mut self, wanted: impl Fn(&Entry) -> bool) {
        self.0.retain(|_, entry| wanted(entry));
        // Releases the memory of a wave of revocations; the spare room makes this rare.
        self.0.shrink_to((self.0.len() * 8).max(64));
    }
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::clock::Hand;
    use super::super::super::testing::{Log, NOW};
    use super::super::subject_digest;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn list() -> DenyList {
        DenyList::new(30 * SECOND)
    }

    fn session(sid: &str) -> Target {
        Target::session(sid).unwrap()
    }

    fn user(sub: &str) -> Target {
        Target::User(subject_digest(sub))
    }

    fn until(until: u64) -> Terms {
        Terms { epoch: None, until: Some(until) }
    }

    fn epoch(epoch: u64) -> Terms {
        Terms { epoch: Some(epoch), until: Some(100) }
    }

    fn of(sub: &str, user: u64, global_epoch: u64) -> Marks {
        Marks { epochs: Some(Epochs { subject: subject_digest(sub), user, global_epoch }), ..Marks::default() }
    }

    fn in_session(sid: &str) -> Marks {
        Marks { sid: Some(sid.to_owned()), ..of("u1", 0, 0) }
    }

    #[test]
    fn a_token_a_session_and_a_user_are_revoked_alone() {
        let list = list();
        list.put(Target::token("j1").unwrap(), until(100));
        list.put(session("s1"), until(100));
        let token = |jti: &str, sid: &str| Marks { jti: Some(jti.to_owned()), ..in_session(sid) };
        assert!(list.revokes(&token("j1", "s2")) && list.revokes(&token("j2", "s1")));
        assert!(!list.revokes(&token("j2", "s2")));
        // The id of one kind does not match another kind.
        assert!(!list.revokes(&token("s1", "j1")));
    }

    #[test]
    fn revocation_13_the_strictest_of_user_and_realm_wins_in_any_order() {
        for (of_user, of_realm) in [(0, 0), (3, 0), (0, 2), (3, 2)] {
            for user_first in [true, false] {
                let list = list();
                if user_first {
                    list.put(user("u1"), epoch(of_user));
                }
                list.put(Target::Global, epoch(of_realm));
                if !user_first {
                    list.put(user("u1"), epoch(of_user));
                }
                for (user, global_epoch) in [(0, 0), (2, 2), (3, 1), (3, 2), (9, 0), (0, 9), (9, 9)] {
                    let revoked = user < of_user || global_epoch < of_realm;
                    assert_eq!(
                        list.revokes(&of("u1", user, global_epoch)),
                        revoked,
                        "{user}, {global_epoch}: {of_user}, {of_realm}"
                    );
                }
                assert!(!list.revokes(&of("u2", 0, of_realm)));
            }
        }
    }

    #[test]
    fn revocation_13_a_lower_epoch_that_comes_late_weakens_nothing() {
        let list = list();
        for (user_epoch, realm_epoch) in [(3, 2), (1, 0), (0, 1)] {
            list.put(user("u1"), epoch(user_epoch));
            list.put(Target::Global, epoch(realm_epoch));
        }
        assert!(list.revokes(&of("u1", 2, 2)) && list.revokes(&of("u1", 3, 1)) && !list.revokes(&of("u1", 3, 2)));
        list.remove(&Target::Global);
        assert!(list.revokes(&of("u2", 0, 1)));
    }

    #[test]
    fn what_cannot_be_read_revokes() {
        let hand = Hand::at(NOW);
        let list = DenyList::by(hand.clock(), 30 * SECOND);
        list.put(user("u1"), Terms::default());
        list.put(session("s1"), Terms::default());
        hand.pass(100 * KEEP);
        list.sweep();
        assert!(list.revokes(&of("u1", u64::MAX - 1, 0)) && list.revokes(&in_session("s1")));
        list.put(Target::Global, Terms::default());
        assert!(!list.revokes(&of("u2", 0, 0)));
    }

    #[test]
    fn revocation_10_what_has_expired_is_forgotten() {
        let hand = Hand::at(NOW);
        let list = DenyList::by(hand.clock(), 30 * SECOND);
        for n in 0..10_000 {
            if n == 5_000 {
                hand.pass(SECOND);
            }
            list.put(session(&format!("s{n}")), until(NOW + 3_665));
        }
        hand.pass(KEEP - SECOND);
        list.sweep();
        assert_eq!(list.len(), 10_000);
        hand.pass(SECOND);
        list.sweep();
        assert_eq!(list.len(), 5_000);
        assert!(!list.revokes(&in_session("s0")) && list.revokes(&in_session("s5000")));
        // A repeated revocation restarts the time to keep it.
        list.put(session("s5000"), until(NOW + 3_665));
        hand.pass(SECOND);
        list.sweep();
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn a_wall_clock_that_steps_forgets_no_revocation() {
        let hand = Hand::at(NOW);
        let list = DenyList::by(hand.clock(), 30 * SECOND);
        list.put(session("s1"), until(NOW + 3_665));
        for step in [NOW + 1_000_000, NOW, 0, NOW] {
            hand.step_to(step);
            // Entries written during the sweep are kept, as are existing ones.
            list.put(session(&format!("at-{step}")), until(NOW + 3_665));
            list.sweep();
            assert!(list.revokes(&in_session("s1")) && list.revokes(&in_session(&format!("at-{step}"))), "{step}");
        }
        hand.pass(KEEP + SECOND);
        list.sweep();
        assert_eq!(list.len(), 0);
    }

    #[test]
    fn a_wave_of_revocations_gives_its_memory_back_but_for_some_room() {
        let hand = Hand::at(NOW);
        let list = DenyList::by(hand.clock(), 30 * SECOND);
        let capacity = || list.known.read().unwrap().sessions.0.capacity();
        for n in 0..10_000 {
            if n == 9_900 {
                hand.pass(2 * SECOND);
            }
            list.put(session(&format!("s{n}")), until(NOW + 3_665));
        }
        hand.pass(KEEP - SECOND);
        list.sweep();
        assert!(list.len() == 100 && (800..2_000).contains(&capacity()), "{}", capacity());
        hand.pass(2 * SECOND);
        list.sweep();
        assert!(list.len() == 0 && (64..200).contains(&capacity()), "{}", capacity());
    }

    #[test]
    fn a_reading_replaces_what_was_known_and_forgets_nothing_meanwhile() {
        let list = list();
        list.put(session("gone"), until(100));
        list.put(session("kept"), until(100));
        list.begin();
        list.put(session("kept"), until(100));
        list.put(session("new"), until(100));
        // A replica reports this that has not received the later puts.
        ["gone", "kept"].iter().for_each(|sid| list.remove(&session(sid)));
        assert!(["gone", "kept", "new"].iter().all(|sid| list.revokes(&in_session(sid))));
        list.loaded();
        assert_eq!(["gone", "kept", "new"].map(|sid| list.revokes(&in_session(sid))), [false, true, true]);
        list.remove(&session("kept"));
        assert!(!list.revokes(&in_session("kept")));
    }

    #[test]
    fn revocation_08_it_is_stale_when_nothing_was_proven_for_too_long() {
        let list = list();
        let start = Instant::now();
        assert!(list.is_stale(start));
        list.confirm(start + 10 * SECOND);
        // A proof older than the last one changes nothing.
        list.confirm(start);
        for (after, stale) in [(0, false), (10, false), (39, false), (42, true), (1_000, true)] {
            assert_eq!(list.is_stale(start + after * SECOND), stale, "{after} s");
        }
        list.confirm(start + 50 * SECOND);
        assert!(!list.is_stale(start + 79 * SECOND));
    }

    #[test]
    fn revocation_08_it_is_stale_from_the_first_moment_after_the_limit() {
        let list = list();
        list.confirm(list.began + 10 * SECOND);
        assert!(!list.is_stale(list.began + 40 * SECOND));
        assert!(list.is_stale(list.began + 40 * SECOND + Duration::from_millis(1)));
    }

    #[test]
    fn that_it_is_stale_is_told_once_and_so_is_the_end_of_it() {
        let list = list();
        let log = Log::default();
        tracing::subscriber::with_default(log.subscriber(), || {
            for times in [1, 2] {
                (0..times).for_each(|_| list.tell_stale());
                (0..times).for_each(|_| list.confirm(Instant::now()));
            }
        });
        let told = |what| log.text().matches(what).count();
        assert_eq!((told("nothing proves"), told("up to date again")), (2, 2), "{}", log.text());
    }
}
