//! A cache of verified tokens, so that a token's second request costs a look-up and no signature check.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::quality::RandomState;

/// The default number of cached tokens: about 5 MB of tokens of the usual size.
pub(crate) const DEFAULT_CAPACITY: usize = 10_000;

/// A bounded map from tokens to their verified contents.
///
/// The key is the whole token, compared byte by byte: a hash alone could be made to collide. Two generations bound the
/// size. When the young one reaches half the capacity, it becomes the old one, and tokens not used since the previous
/// such change are evicted.
pub(crate) struct TokenCache<V> {
    generations: RwLock<Generations<V>>,
    half: usize,
}

struct Generations<V> {
    young: HashMap<Box<str>, Arc<V>, RandomState>,
    old: HashMap<Box<str>, Arc<V>, RandomState>,
}

impl<V> TokenCache<V> {
    /// Creates a cache of at most `capacity` tokens; 0 disables it.
    pub(crate) fn new(capacity: usize) -> Self {
        let generations = Generations { young: HashMap::default(), old: HashMap::default() };
        Self { generations: RwLock::new(generations), half: capacity.div_ceil(2) }
    }

    pub(crate) fn get(&self, token: &str) -> Option<Arc<V>> {
        // A panic while the lock was held leaves no map half-changed, so poison is harmless.
        let generations = self.generations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(hit) = generations.young.get(token) {
            return Some(Arc::clone(hit));
        }
        let hit = Arc::clone(generations.old.get(token)?);
        drop(generations);
        self.insert(token, Arc::clone(&hit));
        Some(hit)
    }

    pub(crate) fn insert(&self, token: &str, value: Arc<V>) {
        if self.half == 0 {
            return;
        }
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= self.half && !generations.young.contains_key(token) {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(token.into(), value);
    }

    pub(crate) fn remove(&self, token: &str) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(token);
        generations.old.remove(token);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let generations = self.generations.read().unwrap();
        generations.young.len() + generations.old.len()
    }
}

impl<V> fmt::Debug for TokenCache<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_and_nothing_else_does() {
        let cache = TokenCache::new(4);
        cache.insert("a.b.c", Arc::new(1));
        assert_eq!(cache.get("a.b.c").as_deref(), Some(&1));
        assert_eq!(cache.get("a.b.d"), None);
        cache.remove("a.b.c");
        assert_eq!(cache.get("a.b.c"), None);
    }

    #[test]
    fn it_stays_within_its_capacity_and_keeps_what_is_in_use() {
        let cache = TokenCache::new(100);
        cache.insert("hot", Arc::new(0));
        for n in 0..10_000 {
            cache.insert(&format!("cold-{n}"), Arc::new(n));
            assert!(cache.len() <= 100);
            assert!(cache.get("hot").is_some(), "forgotten at {n}");
        }
        assert!(cache.get("cold-0").is_none());
    }

    #[test]
    fn its_capacity_is_used_before_anything_is_forgotten() {
        let cache = TokenCache::new(100);
        let fill = |tokens: std::ops::Range<i32>| tokens.for_each(|n| cache.insert(&format!("{n}"), Arc::new(n)));
        fill(0..50);
        assert_eq!(cache.len(), 50);
        // An existing entry takes no additional space.
        fill(0..50);
        fill(50..100);
        assert_eq!(cache.len(), 100);
    }

    #[test]
    fn a_capacity_of_zero_keeps_nothing() {
        let cache = TokenCache::new(0);
        cache.insert("a", Arc::new(1));
        assert_eq!(cache.get("a"), None);
    }

    #[test]
    fn tokens_are_not_printed() {
        let cache = TokenCache::new(4);
        cache.insert("secret-token", Arc::new(1));
        assert!(!format!("{cache:?}").contains("secret"));
    }
}
