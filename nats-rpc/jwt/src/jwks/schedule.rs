//! Schedule of an instance's key pairs: generation, publication and rotation. Pure: no I/O, no timers, no randomness.

use std::time::Duration;

use tokio::time::Instant;

use super::SigningKeyConfig;
use super::lineup::Lineup;

/// The maximum activation delay if there is no other key to sign with.
const FIRST_MARGIN: Duration = Duration::from_millis(250);
/// The pause after a failure; a random part adds up to as much.
const PAUSE: Duration = Duration::from_millis(500);

/// Determines due actions from the time and the present key pairs.
///
/// A `share` (0 to 1) spreads the actions of instances, so that they do not run in lockstep.
#[derive(Debug)]
pub(super) struct Schedule {
    rotate_every: Duration,
    heartbeat: Duration,
    activation_delay: Duration,
    /// `true` if a new key pair is requested, regardless of the time.
    wanted: bool,
    rotate_at: Instant,
    /// The instant at which the document is due to be written, for a heartbeat or a repair.
    write_at: Instant,
    /// The earliest instant of a retry after a failure; the activation of a usable key pair does not wait for it.
    not_before: Instant,
}

impl Schedule {
    /// Creates a schedule in which the first key pair is due at once.
    pub(super) fn new(config: &SigningKeyConfig, now: Instant) -> Self {
        let (rotate_every, heartbeat, activation_delay) =
            (config.rotate_every, config.heartbeat, config.activation_delay);
        let (rotate_at, write_at) = (now + rotate_every, now + heartbeat);
        Self { rotate_every, heartbeat, activation_delay, wanted: true, rotate_at, write_at, not_before: now }
    }

    /// Returns `true` if the next key pair is due to become the active one.
    pub(super) fn promotes(&self, lineup: &Lineup, now: Instant) -> bool {
        self.usable_at(lineup).is_some_and(|at| at <= now)
    }

    /// Returns `true` if a key pair is due to be generated.
    pub(super) fn prepares(&self, lineup: &Lineup, now: Instant) -> bool {
        now >= self.not_before && lineup.next.is_none() && (self.wanted || now >= self.rotate_at)
    }

    /// Returns `true` if the document is due to be written.
    pub(super) fn writes(&self, lineup: &Lineup, now: Instant) -> bool {
        now >= self.not_before && (lineup.has_news() || now >= self.write_at)
    }

    /// Returns the instant of the next action, if nothing else happens.
    pub(super) fn due(&self, lineup: &Lineup) -> Instant {
        let rotate_at = if self.wanted { self.not_before } else { self.rotate_at };
        let write_at = if lineup.has_news() { self.not_before } else { self.write_at };
        let next = if lineup.next.is_none() { write_at.min(rotate_at) } else { write_at };
        let next = next.max(self.not_before);
        self.usable_at(lineup).map_or(next, |usable| usable.min(next))
    }

    /// Requests a new key pair, for example on an operator's request.
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    /// Requests a repair of the document.
    pub(super) fn refused(&mut self, now: Instant) {
        self.write_at = now;
    }

    /// Records that the requested key pair was generated.
    pub(super) fn prepared(&mut self) {
        self.wanted = false;
    }

    /// Records that the next key pair is active. Its interval is shortened by up to a tenth.
    pub(super) fn promoted(&mut self, now: Instant, share: f64) {
        self.rotate_at = now + self.rotate_every.mul_f64(1.0 - share / 10.0);
    }

    /// Records that the document was written.
    pub(super) fn written(&mut self, now: Instant) {
        self.write_at = now + self.heartbeat;
    }

    /// Records a failure.
    pub(super) fn failed(&mut self, now: Instant, share: f64) {
        self.not_before = now + PAUSE.mul_f64(1.0 + share);
    }

    /// Returns the instant from which the next key pair may sign, or `None` until it is seen in the ring.
    fn usable_at(&self, lineup: &Lineup) -> Option<Instant> {
        let margin = match lineup.active {
            Some(_) => self.activation_delay,
            None => self.activation_delay.min(FIRST_MARGIN),
        };
        Some(lineup.next.as_ref()?.seen? + margin)
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyPurpose;
    use super::*;
    use crate::Document;

    const ROTATION: Duration = Duration::from_secs(1_000);
    const HEARTBEAT: Duration = Duration::from_secs(60);
    const MARGIN: Duration = Duration::from_secs(10);
    const TICK: Duration = Duration::from_millis(1);

    /// Creates a schedule at the returned instant, without key pairs.
    fn start() -> (Schedule, Lineup, Instant) {
        let config = SigningKeyConfig::new(KeyPurpose::AccessTokens);
        let config = config.rotate_every(ROTATION).heartbeat(HEARTBEAT).activation_delay(MARGIN);
        let now = Instant::now();
        (Schedule::new(&config, now), Lineup::new(config.purpose, config.issuer, 1_000), now)
    }

    fn prepare(schedule: &mut Schedule, lineup: &mut Lineup) {
        lineup.prepare(0).unwrap();
        schedule.prepared();
    }

    /// Publishes the present key pairs instead of `document`, at `now`.
    fn publish(schedule: &mut Schedule, lineup: &mut Lineup, mut document: Document, now: Instant) -> Document {
        lineup.amend(&mut document, 0);
        document.version += 1;
        lineup.written(&document);
        schedule.written(now);
        document
    }

    /// Creates a schedule with a key pair that is active since the returned instant, and the document.
    fn signing() -> (Schedule, Lineup, Document, Instant) {
        let (mut schedule, mut lineup, now) = start();
        prepare(&mut schedule, &mut lineup);
        let document = publish(&mut schedule, &mut lineup, Document::default(), now);
        lineup.observe(&document, now);
        lineup.promote().unwrap();
        schedule.promoted(now, 0.0);
        (schedule, lineup, document, now)
    }

    #[test]
    fn at_the_start_a_key_pair_is_made_and_published_at_once() {
        let (mut schedule, mut lineup, now) = start();
        assert!(schedule.prepares(&lineup, now));
        assert!(!schedule.writes(&lineup, now), "there is nothing to be written");
        assert_eq!(schedule.due(&lineup), now);
        prepare(&mut schedule, &mut lineup);
        assert!(!schedule.prepares(&lineup, now));
        assert!(schedule.writes(&lineup, now));
        assert_eq!(schedule.due(&lineup), now);
        publish(&mut schedule, &mut lineup, Document::default(), now);
        assert!(!schedule.writes(&lineup, now));
        assert_eq!(schedule.due(&lineup), now + HEARTBEAT);
    }

    #[test]
    fn a_heartbeat_is_due_an_interval_after_the_last_write() {
        let (mut schedule, mut lineup, document, now) = signing();
        assert!(!schedule.writes(&lineup, now + HEARTBEAT - TICK));
        assert!(schedule.writes(&lineup, now + HEARTBEAT));
        assert_eq!(schedule.due(&lineup), now + HEARTBEAT);
        publish(&mut schedule, &mut lineup, document, now + TICK);
        assert!(!schedule.writes(&lineup, now + HEARTBEAT));
        assert_eq!(schedule.due(&lineup), now + TICK + HEARTBEAT);
    }

    #[test]
    fn a_refused_document_is_put_right_at_once() {
        let (mut schedule, lineup, _, now) = signing();
        schedule.refused(now + TICK);
        assert!(schedule.writes(&lineup, now + TICK));
        assert_eq!(schedule.due(&lineup), now + TICK);
    }

    #[test]
    fn a_key_is_changed_after_its_interval_or_up_to_a_tenth_earlier() {
        for (share, after) in [(0.0, ROTATION), (0.5, ROTATION * 19 / 20), (1.0, ROTATION * 9 / 10)] {
            let (mut schedule, lineup, _, now) = signing();
            schedule.promoted(now, share);
            schedule.written(now + ROTATION);
            assert_eq!(schedule.due(&lineup), now + after, "{share}");
            assert!(!schedule.prepares(&lineup, now + after - TICK), "{share}");
            assert!(schedule.prepares(&lineup, now + after), "{share}");
        }
    }

    #[test]
    fn whoever_wants_a_key_pair_gets_one_but_no_second_while_it_waits() {
        let (mut schedule, mut lineup, document, now) = signing();
        schedule.want();
        assert!(schedule.prepares(&lineup, now));
        assert_eq!(schedule.due(&lineup), now);
        prepare(&mut schedule, &mut lineup);
        publish(&mut schedule, &mut lineup, document, now);
        schedule.want();
        assert!(!schedule.prepares(&lineup, now + ROTATION));
        assert_eq!(schedule.due(&lineup), now + HEARTBEAT, "a rotation is not what comes next");
    }

    #[test]
    fn a_key_signs_a_margin_after_it_was_seen_and_the_first_one_soon() {
        let (schedule, lineup, now) = start();
        let cases = [((schedule, lineup, Document::default(), now), FIRST_MARGIN), (signing(), MARGIN)];
        for ((mut schedule, mut lineup, document, now), margin) in cases {
            prepare(&mut schedule, &mut lineup);
            let document = publish(&mut schedule, &mut lineup, document, now);
            assert!(!schedule.promotes(&lineup, now + ROTATION), "not seen in the ring");
            lineup.observe(&document, now + TICK);
            assert_eq!(schedule.due(&lineup), now + TICK + margin);
            assert!(!schedule.promotes(&lineup, now + margin));
            assert!(schedule.promotes(&lineup, now + TICK + margin));
        }
    }

    #[test]
    fn after_a_failure_there_is_a_pause_that_a_key_which_can_sign_does_not_wait_for() {
        for (share, pause) in [(0.0, PAUSE), (0.5, PAUSE * 3 / 2), (1.0, PAUSE * 2)] {
            let (mut schedule, mut lineup, now) = start();
            let (before, after) = (now + pause - TICK, now + pause);
            schedule.failed(now, share);
            assert!(!schedule.prepares(&lineup, before), "{share}");
            assert!(schedule.prepares(&lineup, after), "{share}");
            assert_eq!(schedule.due(&lineup), after, "{share}");
            prepare(&mut schedule, &mut lineup);
            assert!(!schedule.writes(&lineup, before), "{share}");
            assert!(schedule.writes(&lineup, after), "{share}");
            assert_eq!(schedule.due(&lineup), after, "{share}");
            let document = publish(&mut schedule, &mut lineup, Document::default(), now);
            schedule.refused(now);
            assert_eq!(schedule.due(&lineup), after, "{share}");
            lineup.observe(&document, now);
            assert_eq!(schedule.due(&lineup), now + FIRST_MARGIN, "{share}");
            assert!(schedule.promotes(&lineup, now + FIRST_MARGIN), "{share}");
        }
    }
}
