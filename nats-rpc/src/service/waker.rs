//! The set of a loop's slots that need to be polled.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use futures::task::AtomicWaker;

/// The woken slots of one loop.
#[derive(Default)]
pub(super) struct Woken {
    slots: Mutex<VecDeque<usize>>,
    /// Is `true` if there are woken slots; readable without the lock.
    any: AtomicBool,
    parent: AtomicWaker,
}

impl Woken {
    /// Sets the waker that is called when a slot wakes.
    pub(super) fn register(&self, parent: &Waker) {
        self.parent.register(parent);
    }

    /// Moves all woken slots to `batch`. A slot that wakes from now on wakes the parent too, so no wake-up is lost. A
    /// handler that wakes itself at once cannot starve the other slots of its loop.
    pub(super) fn take(&self, batch: &mut VecDeque<usize>) {
        debug_assert!(batch.is_empty());
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        self.any.store(false, Ordering::Relaxed);
        std::mem::swap(&mut *slots, batch);
    }

    /// Returns `true` if a slot has woken since the last [`take`](Self::take).
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    fn push(&self, slot: usize) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.push_back(slot);
        self.any.store(true, Ordering::Relaxed);
    }
}

/// The waker of one slot, created once and reused for every request in that slot.
pub(super) struct SlotWaker {
    slot: usize,
    queued: AtomicBool,
    woken: Arc<Woken>,
}

impl SlotWaker {
    pub(super) fn new(slot: usize, woken: Arc<Woken>) -> Arc<Self> {
        Arc::new(Self { slot, queued: AtomicBool::new(false), woken })
    }

    /// Allows the slot to be queued again; called before the slot is polled.
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
            self.woken.push(self.slot);
            self.woken.parent.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_queued_once_until_it_is_polled_and_never_forgotten() {
        let woken = Arc::<Woken>::default();
        let slots = [0, 1].map(|slot| SlotWaker::new(slot, woken.clone()));
        let mut batch = VecDeque::new();
        assert!(!woken.any());
        for slot in [&slots[1], &slots[0], &slots[1]] {
            Waker::from(slot.clone()).wake();
        }
        assert!(woken.any());
        woken.take(&mut batch);
        assert_eq!(batch, [1, 0]);
        assert!(!woken.any());
        slots[1].clear();
        Waker::from(slots[1].clone()).wake_by_ref();
        batch.clear();
        woken.take(&mut batch);
        assert_eq!(batch, [1], "the other has not been polled since it woke");
    }
}
