//! The task that publishes, prolongs and rotates the key pairs of one instance.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bucket::JwksBucket;
use super::follow::Followed;
use super::lineup::Lineup;
use super::schedule::Schedule;
use super::{KeyEvent, KeysError, SigningKeyConfig};
use crate::ActiveKey;

pub(super) struct Publisher {
    bucket: JwksBucket,
    followed: Followed,
    versions: watch::Receiver<u64>,
    config: SigningKeyConfig,
    lineup: Lineup,
    schedule: Schedule,
    active: ActiveKey,
    /// Notified of requests of this process to rotate.
    order: Arc<Notify>,
    /// `true` if the ring must be read periodically instead of watched.
    pub(super) looks_up: bool,
    /// Notified of each published key.
    pub(super) published: Arc<Notify>,
    /// The id of the active key.
    signing: watch::Sender<Option<String>>,
}

impl Publisher {
    pub(super) fn new(
        bucket: JwksBucket,
        followed: Followed,
        config: SigningKeyConfig,
        active: ActiveKey,
        order: Arc<Notify>,
        signing: watch::Sender<Option<String>>,
    ) -> Self {
        let lineup = Lineup::new(config.purpose, config.issuer.clone(), config.horizon());
        let versions = followed.ring.versions();
        let schedule = Schedule::new(&config, Instant::now());
        let (looks_up, published) = (config.purpose.is_looked_up(), Arc::new(Notify::new()));
        Self { bucket, followed, versions, config, lineup, schedule, active, order, looks_up, published, signing }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.step().await;
            let due = self.schedule.due(&self.lineup);
            // The senders of all three channels live as long as the ring, which is `self`'s.
            tokio::select! {
                Ok(()) = self.versions.changed() => {}
                Ok(()) = self.followed.rotate.changed() => self.schedule.want(),
                Ok(()) = self.followed.refused.changed() => self.schedule.refused(Instant::now()),
                () = self.order.notified() => self.schedule.want(),
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// Executes the due actions.
    async fn step(&mut self) {
        let now = Instant::now();
        for kid in self.lineup.observe(&self.followed.ring.document(), now) {
            tracing::warn!(kid, "a signing key is no longer in the ring: retired, or clocks differ; making another");
            self.tell(KeyEvent::Lost { kid });
            // A key pair that is about to become active replaces it.
            if self.lineup.next.is_none() {
                self.schedule.want();
            }
        }
        if self.lineup.active.is_none() {
            self.active.clear();
            self.signing.send_if_modified(|kid| kid.take().is_some());
        }
        if self.schedule.promotes(&self.lineup, now) {
            self.promote(now);
        }
        if self.schedule.prepares(&self.lineup, now) {
            match self.lineup.prepare(self.config.clock.unix_seconds()) {
                Ok(()) => self.schedule.prepared(),
                Err(error) => {
                    tracing::error!(%error, "no key pair");
                    self.schedule.failed(now, fastrand::f64());
                }
            }
        }
        if self.schedule.writes(&self.lineup, now) {
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
            self.schedule.promoted(now, fastrand::f64());
        }
    }

    async fn write(&mut self) {
        let (lineup, clock) = (&self.lineup, &self.config.clock);
        let known = self.followed.ring.document();
        let amend = |document: &mut _, _: &_| {
            lineup.amend(document, clock.unix_seconds());
            Ok(())
        };
        match self.bucket.amend(Some(&known), amend).await {
            Ok(document) => {
                for kid in self.lineup.written(&document) {
                    self.tell(KeyEvent::Published { kid });
                    self.published.notify_one();
                }
                if let Some(own) = &self.lineup.active {
                    self.active.set(own.key.clone(), own.until);
                }
                self.schedule.written(Instant::now());
                if self.looks_up {
                    self.followed.ring.look_up();
                }
            }
            Err(error) => {
                tracing::error!(%error, "public keys were not published");
                if gives_up(&mut self.lineup, &error) {
                    self.schedule.want();
                }
                self.schedule.failed(Instant::now(), fastrand::f64());
            }
        }
    }

    fn tell(&self, event: KeyEvent) {
        (self.config.tell.0)(event);
    }
}

/// Discards the key pair if it is unknown whether a write with this error has published it; returns `true` if there
/// was one.
fn gives_up(lineup: &mut Lineup, error: &KeysError) -> bool {
    match error {
        // After a lost race, nothing was written.
        KeysError::Contended { .. } => false,
        _ => lineup.doubt(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::KeyPurpose;
    use super::*;

    #[test]
    fn a_key_pair_is_given_up_unless_the_write_of_it_lost_a_race() {
        let mut lineup = Lineup::new(KeyPurpose::AccessTokens, "nats-rpc-auth".to_owned(), 1_000);
        let unknown = KeysError::Unavailable { bucket: "b", source: "no answer".into() };
        assert!(!gives_up(&mut lineup, &unknown), "there is none");
        lineup.prepare(0).unwrap();
        assert!(!gives_up(&mut lineup, &KeysError::Contended { bucket: "b" }));
        assert!(lineup.has_news(), "it is still to be published");
        assert!(gives_up(&mut lineup, &unknown));
        assert!(!lineup.has_news());
    }
}
