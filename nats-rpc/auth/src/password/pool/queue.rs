//! The order in which waiting work is served: fair between classes, networks and sources.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The trust in a caller that waits for a password hash, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum HashPriority {
    /// The source of the caller is not proved.
    Unproven,
    /// The source is proved, and attempts from it failed.
    Noisy,
    /// The source is proved and has no failed attempts, or the device is known.
    Quiet,
}

impl HashPriority {
    const ALL: [Self; 3] = [Self::Unproven, Self::Noisy, Self::Quiet];

    /// Returns the share of the threads that a class has while all classes wait.
    fn weight(self) -> i64 {
        match self {
            Self::Unproven => 1,
            Self::Noisy => 2,
            Self::Quiet => 8,
        }
    }
}

/// The place of a caller in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) priority: HashPriority,
    /// A network of many sources, as a hash.
    pub(super) network: u64,
    pub(super) source: u64,
}

/// A bounded queue: classes have shares, networks alternate within a class, and sources within a network.
///
/// A new item in a full queue displaces the last one of a lower class. Otherwise it displaces the last one of the
/// network or source that has the most places, if those are more than its own.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    waiting: Vec<Waiting<T>>,
    most: usize,
    /// The number of all that were queued or served; orders both.
    ticks: u64,
    /// The last time that a waiting network or source was served.
    served: HashMap<u64, u64>,
    /// The credit of each class.
    balance: [i64; 3],
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    lane: Lane,
    item: T,
}

/// A place in the queue.
pub(super) struct Queued<T> {
    pub(super) id: u64,
    /// The item that it displaced.
    pub(super) displaced: Option<T>,
}

impl<T> FairQueue<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Vec::new(), most, ticks: 0, served: HashMap::new(), balance: [0; 3] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues `item`; returns it if there is no place for it.
    pub(super) fn push(&mut self, lane: Lane, item: T) -> Result<Queued<T>, T> {
        let displaced = match self.waiting.len() < self.most {
            true => None,
            false => match self.longest(lane) {
                Some(at) => Some(self.waiting.remove(at).item),
                None => return Err(item),
            },
        };
        self.ticks += 1;
        let id = self.ticks;
        self.waiting.push(Waiting { id, lane, item });
        Ok(Queued { id, displaced })
    }

    /// Returns `true` if [`push`](Self::push) would find a place now.
    pub(super) fn has_place(&self, lane: Lane) -> bool {
        self.waiting.len() < self.most || self.longest(lane).is_some()
    }

    /// Removes and returns the next item.
    pub(super) fn pop(&mut self) -> Option<T> {
        let class = self.next_class()?;
        let turn = |waiting: &Waiting<T>| {
            let last = |lane: u64| self.served.get(&lane).copied().unwrap_or(0);
            (last(waiting.lane.network), last(waiting.lane.source), waiting.id)
        };
        let of_class = self.waiting.iter().enumerate().filter(|(_, waiting)| waiting.lane.priority == class);
        let (at, _) = of_class.min_by_key(|(_, waiting)| turn(waiting))?;
        let Waiting { lane, item, .. } = self.waiting.remove(at);
        self.ticks += 1;
        for served in [lane.network, lane.source] {
            self.served.insert(served, self.ticks);
        }
        let waiting = &self.waiting;
        self.served.retain(|lane, _| waiting.iter().any(|it| it.lane.network == *lane || it.lane.source == *lane));
        Some(item)
    }

    /// Removes an item whose caller no longer waits.
    pub(super) fn remove(&mut self, id: u64) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// Returns the maximum number of items that are served before a new one of `lane`.
    pub(super) fn ahead(&self, lane: Lane) -> usize {
        let in_class = |priority| self.waiting.iter().filter(move |it| it.lane.priority == priority);
        let own = 1 + in_class(lane.priority).filter(|it| it.lane.source == lane.source).count();
        // Each other source is served at most as often as this one until the new item's turn.
        let mut sources: HashMap<u64, usize> = HashMap::new();
        for it in in_class(lane.priority) {
            *sources.entry(it.lane.source).or_default() += 1;
        }
        let same: usize =
            sources.iter().map(|(source, many)| if *source == lane.source { *many } else { own.min(*many) }).sum();
        let others = HashPriority::ALL.into_iter().filter(|class| *class != lane.priority).map(|class| {
            let share = (same as i64 + 1) * class.weight() / lane.priority.weight() + 1;
            in_class(class).count().min(usize::try_from(share).unwrap_or(usize::MAX))
        });
        same + others.sum::<usize>()
    }

    /// Selects the class that is furthest behind its share (smooth weighted round robin).
    fn next_class(&mut self) -> Option<HashPriority> {
        let waits = |class: HashPriority| self.waiting.iter().any(|it| it.lane.priority == class);
        let waiting: Vec<_> = HashPriority::ALL.into_iter().filter(|class| waits(*class)).collect();
        let total: i64 = waiting.iter().map(|class| class.weight()).sum();
        for class in HashPriority::ALL {
            let balance = &mut self.balance[class as usize];
            // A class without waiting items accumulates no credit.
            *balance = if waiting.contains(&class) { *balance + class.weight() } else { 0 };
        }
        let next = waiting.into_iter().max_by_key(|class| self.balance[*class as usize])?;
        self.balance[next as usize] -= total;
        Some(next)
    }

    /// Returns the place that a new item of `lane` would take in a full queue.
    fn longest(&self, lane: Lane) -> Option<usize> {
        let class = self.waiting.iter().map(|it| it.lane.priority).min()?;
        let of_class = || self.waiting.iter().enumerate().filter(|(_, it)| it.lane.priority == class);
        let (mut networks, mut sources) = (HashMap::new(), HashMap::new());
        for (_, Waiting { lane, .. }) in of_class() {
            *networks.entry(lane.network).or_insert(0) += 1;
            *sources.entry(lane.source).or_insert(0) += 1;
        }
        let places = |lane: &Lane| {
            (networks.get(&lane.network).copied().unwrap_or(0), sources.get(&lane.source).copied().unwrap_or(0))
        };
        let (at, last) = of_class().max_by_key(|(_, it)| (places(&it.lane), it.id))?;
        let ((network, source), (own_network, own_source)) = (places(&last.lane), places(&lane));
        let has_more = match last.lane.network == lane.network {
            true => source > own_source + 1,
            false => network > own_network + 1,
        };
        (class < lane.priority || class == lane.priority && has_more).then_some(at)
    }
}

/// Hashes the names of networks and sources with a random key, so that collisions are unpredictable.
#[derive(Clone, Debug, Default)]
pub(super) struct LaneNames(RandomState);

impl LaneNames {
    pub(super) fn lane(&self, priority: HashPriority, network: &str, source: &str) -> Lane {
        let (network, source) = (self.0.hash_one(("network", network)), self.0.hash_one(("source", network, source)));
        Lane { priority, network, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HashPriority::{Noisy, Quiet, Unproven};

    fn lane(priority: HashPriority, network: u64, source: u64) -> Lane {
        Lane { priority, network, source: 1_000 * network + source }
    }

    fn served(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    fn filled(most: usize, lanes: &[(Lane, &'static str, usize)]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::new(most);
        for (lane, name, times) in lanes {
            for _ in 0..*times {
                assert!(queue.push(*lane, *name).is_ok());
            }
        }
        queue
    }

    #[test]
    fn sources_take_turns_whatever_the_length_of_their_lines() {
        let lanes = [(lane(Quiet, 1, 1), "flood", 16), (lane(Quiet, 2, 1), "ada", 1), (lane(Quiet, 3, 1), "eve", 2)];
        let order = served(&mut filled(64, &lanes));
        assert_eq!(order[..5], ["flood", "ada", "eve", "flood", "eve"]);
        assert_eq!(order.len(), 19);
    }

    #[test]
    fn many_sources_of_one_network_have_one_turn_together() {
        let mut lanes: Vec<_> = (0..8).map(|source| (lane(Quiet, 1, source), "flood", 2)).collect();
        lanes.push((lane(Quiet, 2, 1), "ada", 3));
        let order = served(&mut filled(64, &lanes));
        assert_eq!(order[..6], ["flood", "ada", "flood", "ada", "flood", "ada"]);
    }

    #[test]
    fn classes_are_served_by_their_weights_and_none_starves() {
        let lanes = [
            (lane(Unproven, 1, 1), "unproven", 30),
            (lane(Noisy, 2, 1), "noisy", 30),
            (lane(Quiet, 3, 1), "quiet", 30),
        ];
        let order = served(&mut filled(128, &lanes));
        let of = |name| order[..22].iter().filter(|it| **it == name).count();
        assert_eq!((of("quiet"), of("noisy"), of("unproven")), (16, 4, 2));
        assert_eq!(order.len(), 90);
    }

    #[test]
    fn in_a_full_queue_a_higher_class_takes_a_place_of_a_lower_one() {
        let mut queue = filled(4, &[(lane(Unproven, 1, 1), "unproven", 4)]);
        assert!(queue.push(lane(Unproven, 1, 1), "unproven").is_err());
        assert!(!queue.has_place(lane(Unproven, 1, 1)));
        for _ in 0..4 {
            assert_eq!(queue.push(lane(Quiet, 2, 1), "quiet").ok().unwrap().displaced, Some("unproven"));
        }
        assert!(queue.push(lane(Unproven, 1, 1), "unproven").is_err());
        assert_eq!(served(&mut queue), ["quiet"; 4]);
    }

    #[test]
    fn in_a_full_queue_the_longest_line_gives_way() {
        let mut queue = filled(6, &[(lane(Quiet, 1, 1), "flood", 5), (lane(Quiet, 2, 1), "ada", 1)]);
        for displaced in [Some("flood"), Some("flood")] {
            assert_eq!(queue.push(lane(Quiet, 3, 1), "eve").ok().unwrap().displaced, displaced);
        }
        // No line has more places than the newcomer's would have.
        assert!(queue.push(lane(Quiet, 3, 1), "eve").is_err());
        // Another source of a network takes a place of the longest of its own.
        assert_eq!(queue.push(lane(Quiet, 1, 2), "bob").ok().unwrap().displaced, Some("flood"));
    }

    #[test]
    fn the_number_ahead_is_never_below_what_is_served_first() {
        let lanes = [
            (lane(Unproven, 1, 1), "other", 20),
            (lane(Noisy, 2, 1), "other", 20),
            (lane(Quiet, 3, 1), "other", 20),
            (lane(Quiet, 4, 1), "other", 3),
        ];
        for newcomer in
            [lane(Unproven, 9, 9), lane(Noisy, 2, 1), lane(Quiet, 9, 9), lane(Quiet, 4, 1), lane(Quiet, 3, 2)]
        {
            let mut queue = filled(128, &lanes);
            let ahead = queue.ahead(newcomer);
            assert!(queue.push(newcomer, "newcomer").is_ok());
            let at = served(&mut queue).iter().position(|it| *it == "newcomer").unwrap();
            assert!(at <= ahead, "{newcomer:?}: {at} before it, {ahead} expected");
        }
        let alone = filled(8, &[(lane(Quiet, 1, 1), "flood", 8)]);
        assert!(alone.ahead(lane(Quiet, 2, 1)) <= 1, "one line of any length is one turn");
    }

    #[test]
    fn a_line_that_ended_leaves_nothing_behind() {
        let mut queue = filled(64, &[(lane(Quiet, 1, 1), "a", 2), (lane(Quiet, 2, 1), "b", 1)]);
        let id = queue.push(lane(Quiet, 3, 1), "c").ok().unwrap().id;
        queue.remove(id);
        assert_eq!(served(&mut queue), ["a", "b", "a"]);
        assert!(queue.served.is_empty() && queue.is_empty());
    }
}
