use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::connection::State;

/// The number of breaks within [`WINDOW`] after which received data is assumed to be the cause.
const FLAPS: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);

/// The last observed state of an async-nats client. It is polled, because a flood of messages can drop events.
#[derive(Default)]
pub(super) struct Sight {
    /// The number of its connects.
    connects: u64,
    is_down: bool,
    /// The instants at which a reconnect was observed.
    returns: VecDeque<Instant>,
}

/// The difference between two observations.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Nothing,
    /// The first connect.
    Connected,
    Disconnected,
    /// The client reconnected. `unseen_break` is `true` if the break was too short to be observed.
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
            // async-nats counts a connection before it reports it as connected, so the state is ignored here.
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

    /// Returns `true` if the client reconnected several times within a short time.
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
        // Already counted, but not yet reported as connected.
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
