use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::connection::State;

/// A connection that broke this often within [`WINDOW`] breaks of something that it receives.
const FLAPS: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);

/// Last observed state of an async-nats client. It is asked for, as a flood drops events.
#[derive(Default)]
pub(super) struct Sight {
    /// Number of its connects.
    connects: u64,
    is_down: bool,
    /// Instant at which it was seen to be connected again.
    returns: VecDeque<Instant>,
}

/// Difference between two observations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// For the first time.
    Connected,
    Disconnected,
    /// It connected again; where its break had not been seen, it was too short.
    Reconnected {
        unseen_break: bool,
    },
}

impl Sight {
    pub(super) fn look(&mut self, nats: &async_nats::Client) -> Seen {
        let state = nats.connection_state();
        let connects = nats.statistics().connects.load(Ordering::Relaxed);
        self.note(state == State::Connected, connects, Instant::now())
    }

    fn note(&mut self, is_connected: bool, connects: u64, now: Instant) -> Seen {
        let news = connects.saturating_sub(self.connects);
        let was_down = std::mem::replace(&mut self.is_down, false);
        let is_first = std::mem::replace(&mut self.connects, connects) == 0;
        if news > 0 {
            // async-nats counts a connection before it says that it stands, so the state is not looked at now.
            let returns = news - u64::from(is_first);
            for _ in 0..returns.min(FLAPS as u64) {
                self.returns.push_back(now);
            }
            while self.returns.len() > FLAPS {
                self.returns.pop_front();
            }
            return match returns {
                0 => Seen::Connected,
                _ => Seen::Reconnected { unseen_break: !was_down || returns > 1 },
            };
        }
        self.is_down = !is_connected;
        if self.is_down && !was_down { Seen::Disconnected } else { Seen::Nothing }
    }

    /// Returns `true` if it came back several times in short order.
    pub(super) fn is_flapping(&self, now: Instant) -> bool {
        self.returns.len() == FLAPS && self.returns.iter().all(|returned| now.duration_since(*returned) <= WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_is_seen_once_also_when_it_is_over() {
        let (mut sight, now) = (Sight::default(), Instant::now());
        assert_eq!(sight.note(true, 1, now), Seen::Connected);
        assert_eq!(sight.note(true, 1, now), Seen::Nothing);
        assert_eq!(sight.note(false, 1, now), Seen::Disconnected);
        assert_eq!(sight.note(false, 1, now), Seen::Nothing);
        // Counted already, and not yet said.
        assert_eq!(sight.note(false, 2, now), Seen::Reconnected { unseen_break: false });
        assert_eq!(sight.note(true, 2, now), Seen::Nothing);
        assert_eq!(sight.note(true, 3, now), Seen::Reconnected { unseen_break: true });
    }

    #[test]
    fn three_breaks_within_ten_seconds_are_flapping() {
        let (mut sight, start) = (Sight::default(), Instant::now());
        for connects in 1..=3 {
            sight.note(true, connects, start);
            assert!(!sight.is_flapping(start), "{connects} connections");
        }
        let late = start + WINDOW * 2;
        sight.note(true, 4, late);
        assert!(!sight.is_flapping(late));
        sight.note(true, 5, late);
        sight.note(true, 6, late + WINDOW / 2);
        assert!(sight.is_flapping(late + WINDOW / 2));
        assert!(Sight { returns: [start; FLAPS].into(), ..Default::default() }.is_flapping(start));
    }
}
