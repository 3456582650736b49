//! What was revoked, in memory: three look-ups for each request, and no message.

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

/// The longest lifetime that a revocation outlives; a guard that checks revocations takes no other tokens.
pub(crate) const MAX_REVOCABLE_LIFETIME: Duration = Duration::from_secs(3600);

/// What has been revoked, as this process knows it; a guard refuses it.
///
/// Four things can be: a token (`jti`), a session (`sid`), all of a user's tokens below an epoch (`ep`), and
/// everybody's below an global epoch (`rep`). Where several apply, the strictest wins.
///
/// [`follow`](Self::watch) keeps it up to date: a revocation is here some milliseconds after it was made.
/// That nothing was missed is proven every two seconds. If it cannot be for 30 s, guards answer
/// 503 (`UNAVAILABLE`) until it is again; a handler that would rather go on says so with
/// [`FailOpenJwtGuard`](super::FailOpenJwtGuard).
///
/// Clones are the same. An entry stays until its bucket takes it back, or a little longer than any token lives.
#[derive(Clone)]
pub struct Revocations(Arc<Shared>);

struct Shared {
    list: Arc<DenyList>,
    /// What keeps the list up to date, and ends with the last clone.
    feed: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Revocations {
    pub(crate) fn new(list: Arc<DenyList>) -> Self {
        Self(Arc::new(Shared { list, feed: OnceLock::new() }))
    }

    /// Keeps `feed` alive for as long as this is.
    pub(crate) fn fed_by(self, feed: impl Any + Send + Sync) -> Self {
        // A second feed would have nothing to add.
        let _ = self.0.feed.set(Box::new(feed));
        self
    }

    /// How long ago it was that this held everything there was; `None` if it never did.
    pub fn age(&self) -> Option<Duration> {
        self.0.list.age(Instant::now())
    }

    /// Whether that is too long ago, so that guards refuse.
    pub fn is_stale(&self) -> bool {
        self.0.list.is_stale(Instant::now())
    }

    /// How many revocations are held; the global epoch is not counted.
    pub fn len(&self) -> usize {
        self.0.list.len()
    }

    /// Whether nothing is revoked but what is below the global epoch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The global epoch, which sessions begin in and tokens are issued with.
    ///
    /// # Errors
    /// [`JwtRejection::StaleRevocations`] if it may be another by now.
    pub fn global_epoch(&self) -> Result<u64, JwtRejection> {
        if self.is_stale() {
            return Err(JwtRejection::StaleRevocations);
        }
        Ok(self.0.list.global_epoch())
    }

    /// The epochs that tokens of `subject` have to be of, as far as is known.
    pub(crate) fn epochs(&self, subject: SubjectDigest) -> Epochs {
        self.0.list.epochs(subject)
    }

    /// Whether a token with `marks` is revoked, or cannot be told from one that is.
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

/// What becomes of a token while it cannot be told whether it is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stale {
    Refuse,
    Accept,
}

/// What a token is revoked by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) jti: Option<String>,
    pub(crate) sid: Option<String>,
    /// `None` for what is no access token, and has no epoch of its own.
    pub(crate) epochs: Option<Epochs>,
}

/// The epochs that a token was issued in.
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
        // It counts in milliseconds.
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
