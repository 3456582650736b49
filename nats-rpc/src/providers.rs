//! Values provided to a service at startup, by type.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// The values that are bound to [`State`](crate::State) extractors and guards.
#[derive(Default)]
pub(crate) struct Providers(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Providers {
    /// Adds `value`, which replaces an earlier one of the same type.
    pub(crate) fn insert<T: Send + Sync + 'static>(&mut self, value: T) {
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.get(&TypeId::of::<T>())?.clone().downcast().ok()
    }
}
