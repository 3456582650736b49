use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A value that the users of a connection share, for as long as one of them holds it.
#[derive(Default)]
pub struct Slot(Mutex<Option<Weak<dyn Any + Send + Sync>>>);

impl Slot {
    /// Returns the shared value, if it has this type and is still in use.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.upgrade()?;
        held.downcast().ok()
    }

    /// Shares `thing` from now on, instead of an earlier value.
    pub fn set<T: Any + Send + Sync>(&self, thing: &Arc<T>) {
        let thing: Arc<dyn Any + Send + Sync> = thing.clone();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::downgrade(&thing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_thing_lives_as_long_as_it_is_used() {
        let slot = Slot::default();
        assert_eq!(slot.get::<u8>(), None);
        let first = Arc::new(1_u8);
        slot.set(&first);
        assert_eq!((slot.get::<u8>().as_deref(), slot.get::<u16>()), (Some(&1), None));
        drop(first);
        assert_eq!(slot.get::<u8>(), None);
    }
}
