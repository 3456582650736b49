use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of handlers of a service that may wait at a time, for all its endpoints together.
///
/// An endpoint checks the limit before it starts a handler, and takes a permit only if the handler has to wait. A
/// handler that is ready at once therefore costs no more than the check. Two endpoints that check at the same moment
/// may exceed the limit by one.
pub(super) struct Permits {
    limit: usize,
    taken: AtomicUsize,
}

impl Permits {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, taken: AtomicUsize::new(0) }
    }

    pub(super) fn are_left(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.limit
    }

    pub(super) fn take(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn give(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
