use std::sync::atomic::{AtomicUsize, Ordering};

/// How many handlers of a service may wait for something at a time, all its endpoints together.
///
/// Endpoints look before they start a handler and take a permit only when it has to wait, so that what is
/// ready at once costs no more than the look. Two that look at the same moment may exceed the limit by one.
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
