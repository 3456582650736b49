//! Revocations in memory: each request makes three look-ups and sends no message.

mod bucket;
mod entry;
mod list;
mod proof;
mod replica;
mod revoker;
mod signed;
mod watch;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(crate) use self::bucket::BUCKET;
pub use self::bucket::RevocationBucketError;
pub(crate) use self::entry::{SubjectDigest, Target, Terms, subject_digest};
pub(crate) use self::list::DenyList;
pub(crate) use self::replica::DEFAULT_MAX_STALE;
pub use self::revoker::{RevocationError, Revoker};
pub(crate) use self::watch::CHANGES;
use super::refusal::JwtRejection;

/// The maximum lifetime of tokens whose revocations are checked. A revocation is kept longer than that; a guard
/// rejects tokens with a longer lifetime.
pub(crate) const MAX_REVOCABLE_LIFETIME: Duration = Duration::from_secs(3600);

/// The revocations known to this process; a guard rejects what they list.
///
/// They cover a token (`jti`), a session (`sid`), all of a user's tokens below an epoch (`ep`), and all users' tokens
/// below a global epoch (`rep`). If several apply, the strictest one decides.
///
/// [`watch`](Self::watch) keeps the list up to date: a revocation arrives within milliseconds. A check every two
/// seconds proves that none is missing. If the check fails for 30 s, guards reply 503 (`UNAVAILABLE`) until it
/// succeeds again. A handler can fail open instead, with [`FailOpenJwtGuard`](super::FailOpenJwtGuard).
///
/// Clones share one list. An entry stays until it is removed from its bucket, or slightly longer than any token lives.
#[derive(Clone)]
pub struct Revocations(Arc<Shared>);

struct Shared {
    list: Arc<DenyList>,
    /// The task that keeps the list up to date; it ends with the last clone.
    feed: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Revocations {
    pub(crate) fn new(list: Arc<DenyList>) -> Self {
        Self(Arc::new(Shared { list, feed: OnceLock::new() }))
    }

    /// Keeps `feed` alive as long as the list.
    pub(crate) fn fed_by(self, feed: impl Any + Send + Sync) -> Self {
        // The first feed is sufficient; a second one is dropped.
        let _ = self.0.feed.set(Box::new(feed));
        self
    }

    /// Returns the time since the list was last proved complete, or `None` if it never was.
    pub fn age(&self) -> Option<Duration> {
        self.0.list.age(Instant::now())
    }

    /// Returns `true` if the list is older than the maximum, so that guards reject requests.
    pub fn is_stale(&self) -> bool {
        self.0.list.is_stale(Instant::now())
    }

    /// Returns the number of revocations, without the global epoch.
    pub fn len(&self) -> usize {
        self.0.list.len()
    }

    /// Returns `true` if there is no revocation except the global epoch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the global epoch, which new sessions and tokens contain.
    ///
    /// # Errors
    /// [`JwtRejection::StaleRevocations`] if the epoch may have changed.
    pub fn global_epoch(&self) -> Result<u64, JwtRejection> {
        if self.is_stale() {
            return Err(JwtRejection::StaleRevocations);
        }
        Ok(self.0.list.global_epoch())
    }

    /// Returns the minimum epochs of tokens of `subject`, as far as known.
    pub(crate) fn epochs(&self, subject: SubjectDigest) -> Epochs {
        self.0.list.epochs(subject)
    }

    /// Checks that a token with `marks` is not revoked. A stale list is an error as well, unless `stale` accepts it.
    pub(crate) fn check(&self, marks: &Marks, stale: Stale) -> Result<(), JwtRejection> {
        let list = &self.0.list;
        if list.revokes(marks) {
            return Err(JwtRejection::Revoked);
        }
        if !list.is_stale(Instant::now()) {
            return Ok(());
        }
        list.tell_stale();
        if stale == Stale::Accept { Ok(()) } else { Err(JwtRejection::StaleRevocations) }
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, age, max_stale) = (self.len(), self.age(), self.0.list.max_stale());
        f.debug_struct("Revocations")
            .field("len", &len)
            .field("age", &age)
            .field("max_stale", &max_stale)
            .finish_non_exhaustive()
    }
}

/// The behavior of a guard while the revocation list is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    Refuse,
    Accept,
}

/// The claims by which a token can be revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) jti: Option<String>,
    pub(crate) sid: Option<String>,
    /// `None` for proofs that are not access tokens and have no epoch.
    pub(crate) epochs: Option<Epochs>,
}

/// The epochs in which a token was issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epochs {
    pub(crate) subject: SubjectDigest,
    pub(crate) user: u64,
    pub(crate) global_epoch: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(list: DenyList) -> Revocations {
        Revocations::new(Arc::new(list))
    }

    fn marks() -> Marks {
        let epochs = Epochs { subject: subject_digest("u1"), user: 0, global_epoch: 0 };
        Marks { jti: Some("j1".to_owned()), sid: Some("s1".to_owned()), epochs: Some(epochs) }
    }

    #[test]
    fn what_was_never_up_to_date_refuses_unless_told_otherwise() {
        let view = view(DenyList::new(Duration::from_secs(30)));
        assert_eq!(view.check(&marks(), Stale::Refuse), Err(JwtRejection::StaleRevocations));
        assert_eq!(view.check(&marks(), Stale::Accept), Ok(()));
        assert!(view.global_epoch().is_err() && view.age().is_none());
    }

    #[test]
    fn revocation_07_what_is_known_to_be_revoked_is_refused_however_stale() {
        let list = DenyList::new(Duration::ZERO);
        list.put(Target::session("s1").unwrap(), Terms { epoch: None, until: Some(u64::MAX) });
        let view = view(list);
        for stale in [Stale::Refuse, Stale::Accept] {
            assert_eq!(view.check(&marks(), stale), Err(JwtRejection::Revoked));
        }
    }

    #[test]
    fn it_tells_how_much_is_revoked_and_how_long_ago_that_was_all() {
        let list = DenyList::new(Duration::from_secs(30));
        list.put(Target::Global, Terms { epoch: Some(7), until: None });
        let view = view(list);
        assert!(view.is_stale() && view.is_empty(), "the global epoch is not counted");
        let targets =
            [Target::token("j1").unwrap(), Target::session("s1").unwrap(), Target::User(subject_digest("u1"))];
        for (count, target) in targets.into_iter().enumerate() {
            assert_eq!(view.len(), count);
            view.0.list.put(target, Terms { epoch: Some(1), until: Some(u64::MAX) });
            assert!(!view.is_empty());
        }
        assert_eq!(view.len(), 3);
        let now = Instant::now();
        view.0.list.confirm(now);
        assert!(!view.is_stale());
        // The age is counted in milliseconds.
        assert!(view.age().expect("it was proven") <= now.elapsed() + Duration::from_millis(1));
        assert_eq!(view.global_epoch(), Ok(7));
    }

    #[test]
    fn what_feeds_it_lives_as_long_as_the_last_clone() {
        let feed = Arc::new(());
        let view = view(DenyList::new(Duration::ZERO)).fed_by(feed.clone());
        let clone = view.clone();
        drop(view);
        assert_eq!(Arc::strong_count(&feed), 2);
        drop(clone);
        assert_eq!(Arc::strong_count(&feed), 1);
    }
}
