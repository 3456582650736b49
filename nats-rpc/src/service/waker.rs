//! Which slots of a loop want to be polled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use futures::task::AtomicWaker;

/// The woken slots of one loop.
#[derive(Default)]
pub(super) struct Woken {
    slots: Mutex<VecDeque<usize>>,
    parent: AtomicWaker,
}

impl Woken {
    /// Sets who is told when a slot wakes.
    pub(super) fn register(&self, parent: &Waker) {
        self.parent.register(parent);
    }

    /// Moves all woken slots to `batch`. What wakes from now on wakes the parent too, so nothing is missed,
    /// and a handler that wakes itself at once cannot keep its loop from the others.
    pub(super) fn take(&self, batch: &mut VecDeque<usize>) {
        debug_assert!(batch.is_empty());
        std::mem::swap(&mut *self.slots.lock().unwrap_or_else(PoisonError::into_inner), batch);
    }
}

/// The waker of one slot; made once and used for every request that runs there.
pub(super) struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl SlotWaker {
    pub(super) fn new(slot: usize, woken: Arc<Woken>) -> Arc<Self> {
        Arc::new(Self { slot, queued: AtomicBool::new(false), woken })
    }

    /// Allows the slot to be queued again; called before it is polled.
    pub(super) fn clear(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.woken.slots.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.slot);
            self.woken.parent.wake();
        }
    }
}
