//! Receives the beacons for a process and verifies them once for all its watchers.

use std::sync::Arc;

use async_nats::Subscriber;
use futures::StreamExt;
use nats_rpc::Connection;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::limit::ReadLimit;
use super::report::{Report, ReportError, SUBJECT};
use crate::{Clock, DetachedVerifier, KeyRing, SecretKey, SignatureError, WeakKeyRing};

/// The tolerated lead of auth's clock, in milliseconds; beacons further ahead prove nothing.
const MOST_AHEAD: u64 = 5_000;

/// Receives the beacons of auth until it is dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    reports: watch::Receiver<Option<Arc<Report>>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    verifier: DetachedVerifier,
    /// The ring that verifies the beacons; none with a secret.
    ring: Option<WeakKeyRing>,
    /// Notified of each signature with a key that the ring does not have.
    unknown: Notify,
    clock: Clock,
}

impl Hub {
    /// Verifies with `ring`, and requests reads of it for unknown keys.
    pub(crate) fn of_ring(connection: &Connection, ring: &KeyRing) -> Arc<Self> {
        let hub = Self::start(connection, DetachedVerifier::ring(ring), Some(ring.downgrade()));
        connection.slot().set(&hub);
        hub
    }

    pub(crate) fn of_secret(connection: &Connection, secret: &SecretKey) -> Arc<Self> {
        Self::start(connection, DetachedVerifier::secret(secret), None)
    }

    /// Returns the hub of this connection and its ring, if one runs.
    pub(crate) fn running(connection: &Connection) -> Option<(Arc<Self>, KeyRing)> {
        let hub = connection.slot().get::<Self>()?;
        let ring = hub.shared.ring.as_ref()?.upgrade()?;
        Some((hub, ring))
    }

    fn start(connection: &Connection, verifier: DetachedVerifier, ring: Option<WeakKeyRing>) -> Arc<Self> {
        let shared = Arc::new(Shared { verifier, ring, unknown: Notify::new(), clock: Clock::default() });
        let (sender, reports) = watch::channel(None);
        let task = tokio::spawn(run(connection.clone(), shared.clone(), sender)).abort_handle();
        Arc::new(Self { shared, reports, task })
    }

    /// Returns a receiver of the newest beacon and later ones.
    pub(crate) fn reports(&self) -> watch::Receiver<Option<Arc<Report>>> {
        self.reports.clone()
    }

    /// Verifies a signature of auth.
    pub(crate) fn verify(&self, kid: &str, signature: &str, bytes: &[u8]) -> Result<(), SignatureError> {
        let verified = self.shared.verifier.verify(kid, signature, bytes, self.shared.clock.unix_seconds());
        if verified == Err(SignatureError::UnknownKey) {
            self.shared.unknown.notify_one();
        }
        verified
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(connection: Connection, shared: Arc<Shared>, reports: watch::Sender<Option<Arc<Report>>>) {
    let mut limit = ReadLimit::default();
    let mut due = None;
    let mut version = 0;
    let mut refused = Refused::default();
    loop {
        let generation = connection.generation();
        let nats = connection.nats();
        let mut beacons = subscribed(&nats, SUBJECT).await;
        loop {
            let look_up = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = connection.wait_for_renewal(generation) => break,
                beacon = beacons.next() => {
                    let Some(beacon) = beacon else { break };
                    match accept(&shared, &reports, &beacon.payload) {
                        Ok(()) => {}
                        Err(reason) => refused.note(reason),
                    }
                }
                () = shared.unknown.notified(), if due.is_none() => due = Some(limit.next(Instant::now(), fastrand::f64())),
                () = look_up => {
                    due = None;
                    let Some(ring) = shared.ring.as_ref().and_then(WeakKeyRing::upgrade) else { continue };
                    // Evaluates the previous read, as the result of this one has not arrived yet.
                    limit.note(Instant::now(), ring.version() != version);
                    version = ring.version();
                    ring.look_up();
                }
            }
        }
        if connection.generation() == generation {
            // The client has ended; its replacement is being created.
            connection.wait_for_renewal(generation).await;
        }
    }
}

/// Subscribes, and retries until that succeeds.
pub(crate) async fn subscribed(nats: &async_nats::Client, subject: &'static str) -> Subscriber {
    loop {
        match nats.subscribe(subject).await {
            Ok(subscriber) => return subscriber,
            Err(error) => {
                tracing::debug!(%error, subject, "a subscription failed; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

/// Forwards a beacon that auth signed, if it is newer than the one before.
fn accept(shared: &Shared, reports: &watch::Sender<Option<Arc<Report>>>, beacon: &[u8]) -> Result<(), &'static str> {
    let now = shared.clock.unix_millis();
    let report = match Report::verified(beacon, &shared.verifier, now / 1_000) {
        Ok(report) => report,
        Err(ReportError::Signature(SignatureError::UnknownKey)) => {
            shared.unknown.notify_one();
            return Err("the key ring has no such key");
        }
        Err(ReportError::Signature(SignatureError::Invalid)) => return Err("its signature is not valid"),
        Err(ReportError::Malformed) => return Err("it is malformed"),
    };
    if report.at > now.saturating_add(MOST_AHEAD) {
        return Err("it is from the future: the clocks of auth and of this machine differ");
    }
    let is_newer = reports.borrow().as_ref().is_none_or(|known| known.at < report.at);
    if is_newer {
        reports.send_replace(Some(Arc::new(report)));
    }
    // An older one is a replay, or comes from a slower instance; it proves nothing.
    Ok(())
}

/// Counts rejected messages, and logs them at most once a minute.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    count: u64,
    logged: Option<Instant>,
}

impl Refused {
    pub(crate) fn note(&mut self, reason: &'static str) {
        self.count += 1;
        let now = Instant::now();
        if self.logged.is_none_or(|at| now.duration_since(at).as_secs() >= 60) {
            tracing::warn!(count = self.count, reason, "messages for watchers of auth were ignored");
            (self.count, self.logged) = (0, Some(now));
        }
    }
}
