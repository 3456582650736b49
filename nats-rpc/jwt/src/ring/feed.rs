//! The source of a ring's newer documents.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use super::{Inner, KeyRing};

/// The source of a ring's documents; it ends with the last clone of the ring.
pub(crate) struct Feed {
    asked: Arc<Notify>,
    _source: Box<dyn Any + Send + Sync>,
}

impl Feed {
    /// Creates a feed. `asked` is notified when the ring should be read out of turn; `source` is kept alive.
    pub(crate) fn new(asked: Arc<Notify>, source: impl Any + Send + Sync) -> Self {
        Self { asked, _source: Box::new(source) }
    }

    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }
}

impl KeyRing {
    /// Keeps `feed` as long as the ring is in use; the first one stays.
    pub(crate) fn fed_by(self, feed: Feed) -> Self {
        let _ = self.0.feed.set(feed);
        self
    }

    /// Requests a read of the ring out of turn, for example after an own change.
    pub(crate) fn look_up(&self) {
        if let Some(feed) = self.0.feed.get() {
            feed.ask();
        }
    }

    /// Returns a ring that does not keep itself alive; for its feed.
    pub(crate) fn downgrade(&self) -> WeakKeyRing {
        WeakKeyRing(Arc::downgrade(&self.0))
    }
}

/// A weak reference to a ring.
#[derive(Clone)]
pub(crate) struct WeakKeyRing(Weak<Inner>);

impl WeakKeyRing {
    pub(crate) fn upgrade(&self) -> Option<KeyRing> {
        self.0.upgrade().map(KeyRing)
    }
}

impl fmt::Debug for WeakKeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakKeyRing").field(&self.upgrade()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn asked_about() -> (KeyRing, Arc<Notify>) {
        let asked = Arc::new(Notify::new());
        (KeyRing::empty().fed_by(Feed::new(Arc::clone(&asked), ())), asked)
    }

    #[test]
    fn a_look_up_is_asked_of_whoever_feeds_the_ring() {
        let (ring, asked) = asked_about();
        assert!(asked.notified().now_or_never().is_none());
        ring.look_up();
        assert!(asked.notified().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_newer_document_is_asked_for_once_and_not_waited_for_without_end() {
        let (ring, asked) = asked_about();
        assert!(!ring.newer_than(0).await);
        assert!(asked.notified().now_or_never().is_some());
        assert_eq!(ring.newer_than(0).now_or_never(), Some(false), "not again so soon");
        assert!(asked.notified().now_or_never().is_none());
    }

    #[test]
    fn a_feed_does_not_keep_its_ring_in_use() {
        let (ring, _) = asked_about();
        let weak = ring.downgrade();
        assert_eq!(weak.upgrade().map(|ring| ring.version()), Some(0));
        drop(ring);
        assert!(weak.upgrade().is_none());
    }
}
