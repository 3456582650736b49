//! The task that publishes, prolongs and rotates the key pairs of one instance.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bucket::RingBucket;
use super::follow::Followed;
use super::lineup::Lineup;
use super::{KeyEvent, KeysError, SigningKeyConfig};
use crate::jwt::ActiveKey;

/// The margin at most where there is no other key to sign with.
const FIRST_MARGIN: Duration = Duration::from_millis(250);
/// The pause after a write that failed; up to as much comes on top.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Publisher {
    bucket: RingBucket,
    followed: Followed,
    versions: watch::Receiver<u64>,
    config: SigningKeyConfig,
    lineup: Lineup,
    active: ActiveKey,
    /// Orders of this process to rotate.
    order: Arc<Notify>,
    /// The id of the key that signs.
    signing: watch::Sender<Option<String>>,
    /// Whether a new key pair is wanted, whatever the schedule says.
    wanted: bool,
    rotate_at: Instant,
    /// When the document is due to be written, be it for a heartbeat or because it has to be put right.
    write_at: Instant,
    /// No write before this, since one failed.
    not_before: Instant,
}

impl Publisher {
    pub(super) fn new(
        bucket: RingBucket,
        followed: Followed,
        config: SigningKeyConfig,
        active: ActiveKey,
        order: Arc<Notify>,
        signing: watch::Sender<Option<String>>,
    ) -> Self {
        let lineup = Lineup::new(config.purpose, config.issuer.clone(), config.horizon());
        let versions = followed.ring.versions();
        let now = Instant::now();
        let rotate_at = now + config.rotate_every;
        Self {
            bucket,
            followed,
            versions,
            lineup,
            active,
            order,
            signing,
            wanted: true,
            rotate_at,
            write_at: now + config.heartbeat,
            not_before: now,
            config,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.step().await;
            let due = self.due();
            // The senders of all three channels live as long as the ring, which is `self`'s.
            tokio::select! {
                Ok(()) = self.versions.changed() => {}
                Ok(()) = self.followed.rotate.changed() => self.wanted = true,
                Ok(()) = self.followed.refused.changed() => self.write_at = Instant::now(),
                () = self.order.notified() => self.wanted = true,
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Does what is due, and no more.
    async fn step(&mut self) {
        let now = Instant::now();
        for kid in self.lineup.observe(&self.followed.ring.document(), now) {
            tracing::warn!(kid, "a signing key is no longer in the ring: retired, or clocks differ; making another");
            self.tell(KeyEvent::Lost { kid });
            // One that is about to sign takes its place.
            self.wanted |= self.lineup.next.is_none();
        }
        if self.lineup.active.is_none() && self.active.kid().is_some() {
            self.active.clear();
            self.signing.send_replace(None);
        }
        if self.usable_at().is_some_and(|at| at <= now) {
            self.promote(now);
        }
        if now < self.not_before {
            return;
        }
        if self.lineup.next.is_none() && (self.wanted || now >= self.rotate_at) {
            match self.lineup.prepare(self.config.clock.unix_seconds()) {
                Ok(()) => self.wanted = false,
                Err(error) => {
                    tracing::error!(%error, "no key pair");
                    self.not_before = now + PAUSE;
                }
            }
        }
        if self.lineup.has_news() || now >= self.write_at {
            self.write().await;
        }
    }

    fn promote(&mut self, now: Instant) {
        let before = self.active.kid();
        if let Some(own) = self.lineup.promote() {
            self.active.set(own.key.clone(), own.until);
            let kid = own.key.kid().to_owned();
            tracing::info!(kid, before, bucket = self.config.purpose.bucket(), "signing with a new key");
            self.signing.send_replace(Some(kid.clone()));
            self.tell(KeyEvent::Signing { kid });
            self.rotate_at = now + self.config.rotate_every.mul_f64(1.0 - fastrand::f64() / 10.0);
        }
    }

    async fn write(&mut self) {
        let (lineup, clock) = (&self.lineup, &self.config.clock);
        let known = self.followed.ring.document();
        let amend = |document: &mut _| {
            lineup.amend(document, clock.unix_seconds());
            Ok(())
        };
        match self.bucket.amend(Some(&known), amend).await {
            Ok(document) => {
                for kid in self.lineup.written(&document) {
                    self.tell(KeyEvent::Published { kid });
                }
                if let Some(own) = &self.lineup.active {
                    self.active.set(own.key.clone(), own.until);
                }
                self.write_at = Instant::now() + self.config.heartbeat;
                if self.config.purpose.is_looked_up() {
                    self.followed.ring.look_up();
                }
            }
            Err(error) => {
                tracing::error!(%error, "public keys were not published");
                // Of a lost race, it is known that nothing was written.
                if !matches!(error, KeysError::Contended { .. }) && self.lineup.next.is_some() && self.lineup.has_news()
                {
                    self.lineup.doubt();
                    self.wanted = true;
                }
                self.not_before = Instant::now() + PAUSE.mul_f64(1.0 + fastrand::f64());
            }
        }
    }

    fn tell(&self, event: KeyEvent) {
        (self.config.tell.0)(event);
    }

    /// When the next key pair may sign; never, as long as it was not seen in the ring.
    fn usable_at(&self) -> Option<Instant> {
        let margin = match self.lineup.active {
            Some(_) => self.config.margin,
            None => self.config.margin.min(FIRST_MARGIN),
        };
        Some(self.lineup.next.as_ref()?.seen? + margin)
    }

    /// When there is something to do next, whatever else happens.
    fn due(&self) -> Instant {
        let mut write = self.write_at;
        if self.lineup.next.is_none() {
            write = write.min(self.rotate_at);
        }
        if self.wanted && self.lineup.next.is_none() || self.lineup.has_news() {
            write = Instant::now();
        }
        let write = write.max(self.not_before);
        self.usable_at().map_or(write, |usable| usable.min(write))
    }
}
