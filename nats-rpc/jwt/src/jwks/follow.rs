//! Watches a key ring in its bucket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nats_rpc::Connection;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use super::bucket::{JwksBucket, RING, ROTATE, not_opened};
use super::watch::watch;
use super::{KeyPurpose, KeysError};
use crate::follow::{Change, Follower, History, NotLoaded};
use crate::watch::Hub;
use crate::{Clock, Document, Feed, KeyRing, KeyRingError, WeakKeyRing};

/// The timeout of loading the ring at startup.
const LOAD_LIMIT: Duration = Duration::from_secs(10);
/// The interval at which a ring is read that cannot be watched.
const POLL_EVERY: Duration = Duration::from_secs(2);

impl KeyRing {
    /// Returns the ring that the instances of auth (or gateways) publish, kept up to date until its last clone is
    /// dropped.
    ///
    /// A change arrives within milliseconds and replaces the whole ring atomically. A document is ignored, with an
    /// error in the log, if it is malformed or older, its headers are unreadable, or its version is implausible. The
    /// same applies if a key id is not the key's RFC 7638 thumbprint. During a JetStream outage the ring stays
    /// unchanged, and its keys expire at their published time.
    ///
    /// ```no_run
    /// use nats_rpc_jwt::{JwtConfig, JwtGuard, KeyPurpose, KeyRing};
    ///
    /// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let ring = KeyRing::watch(&connection, KeyPurpose::AccessTokens).await?;
    /// let guard: JwtGuard = JwtGuard::new(JwtConfig::ring(ring))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`KeysError::NotProvisioned`] if the bucket does not exist, [`KeysError::Bucket`] if JetStream does not return
    /// it, [`KeysError::NotLoaded`] if the ring does not arrive within 10 s.
    pub async fn watch(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        if let (KeyPurpose::AccessTokens, Some((_, ring))) = (purpose, Hub::running(connection)) {
            return Ok(ring);
        }
        Followed::start(connection, purpose).await.map(|followed| followed.ring)
    }
}

/// A ring with the other contents of its bucket.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) ring: KeyRing,
    /// The number of requests for new key pairs.
    pub(super) rotate: watch::Receiver<u64>,
    /// The number of documents that were rejected, or contain rejected keys.
    pub(super) refused: watch::Receiver<u64>,
}

impl Followed {
    /// Watches the bucket; requests for an early read are served as well.
    pub(super) async fn start(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        match connection.auth_js_api_prefix() {
            Some(_) => Self::by_beacons(connection, purpose).await,
            None => Self::by_consumer(connection, purpose).await,
        }
    }

    /// Watches auth's beacons, which announce changes of the ring; only a read changes the ring.
    async fn by_beacons(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        let (sight, followed) = Sight::of(purpose);
        let bucket = JwksBucket::open(connection, purpose).await?;
        let first = tokio::time::timeout(LOAD_LIMIT, sight.look_up(&bucket)).await;
        first.map_err(|_| NotLoaded { bucket: purpose.bucket().to_owned(), waited: LOAD_LIMIT })??;
        // Auth's beacons announce the gateways' keys as well.
        let (hub, of_auth) = match (purpose, Hub::running(connection)) {
            (KeyPurpose::AccessTokens, _) => (Hub::of_ring(connection, &followed.ring), None),
            (_, Some((hub, ring))) => (hub, Some(ring)),
            (_, None) => {
                let of_auth = Box::pin(Self::by_beacons(connection, KeyPurpose::AccessTokens)).await?.ring;
                (Hub::of_ring(connection, &of_auth), Some(of_auth))
            }
        };
        let asked = Arc::new(Notify::new());
        let watch = watch(asked.clone(), bucket, purpose.bucket(), sight, hub.reports());
        let watching = Ended(tokio::spawn(watch).abort_handle());
        Ok(followed.fed_by(Feed::new(asked, (watching, hub, of_auth))))
    }

    async fn by_consumer(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        let (sight, followed) = Sight::of(purpose);
        let seen = sight.clone();
        let follower =
            Follower::start(connection, purpose.bucket(), History::Short, move |change| seen.see(&change)).await;
        let follower = follower.map_err(|error| not_opened(purpose, error))?;
        follower.loaded(LOAD_LIMIT).await?;
        let asked = Arc::new(Notify::new());
        let answer = answer(asked.clone(), JwksBucket::open(connection, purpose).await?, sight);
        let answering = Ended(tokio::spawn(answer).abort_handle());
        Ok(followed.fed_by(Feed::new(asked, (follower, answering))))
    }

    /// Reads the ring every 2 s, and on request.
    ///
    /// For programs that write to the bucket and must not create consumers on it: a push consumer delivers written
    /// messages to any subject, which bypasses the writer's permissions.
    pub(super) async fn poll(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        let (sight, followed) = Sight::of(purpose);
        let bucket = JwksBucket::open(connection, purpose).await?;
        sight.look_up(&bucket).await?;
        let asked = Arc::new(Notify::new());
        let poll = poll(asked.clone(), bucket, sight);
        let polling = Ended(tokio::spawn(poll).abort_handle());
        Ok(followed.fed_by(Feed::new(asked, polling)))
    }

    fn fed_by(mut self, feed: Feed) -> Self {
        // This start already fulfils earlier requests.
        self.rotate.mark_unchanged();
        self.refused.mark_unchanged();
        Self { ring: self.ring.fed_by(feed), ..self }
    }
}

/// A task that ends when this is dropped.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads the ring on request, in addition to the watch that should have delivered it.
async fn answer(asked: Arc<Notify>, bucket: JwksBucket, sight: Arc<Sight>) {
    loop {
        asked.notified().await;
        if let Err(error) = sight.look_up(&bucket).await {
            tracing::debug!(%error, "a key ring asked for out of turn did not come");
        }
    }
}

async fn poll(asked: Arc<Notify>, bucket: JwksBucket, sight: Arc<Sight>) {
    loop {
        // A timeout triggers a read just as a request does.
        let _ = tokio::time::timeout(POLL_EVERY, asked.notified()).await;
        if let Err(error) = sight.look_up(&bucket).await {
            tracing::warn!(%error, "the key ring was not looked up");
        }
    }
}

/// Handles each change of the bucket.
pub(super) struct Sight {
    ring: WeakKeyRing,
    bucket: &'static str,
    marks: Mutex<Marks>,
    rotations: watch::Sender<u64>,
    refusals: watch::Sender<u64>,
}

/// The progress in a bucket. Revisions of one stream cannot be compared with those of another one of the same name.
#[derive(Default)]
struct Marks {
    /// The creation time of the stream.
    created: Option<OffsetDateTime>,
    /// The highest revision of a document so far.
    ring: u64,
    /// The revision of the last request for new key pairs.
    rotate: u64,
}

impl Sight {
    fn of(purpose: KeyPurpose) -> (Arc<Self>, Followed) {
        let ring = KeyRing::empty();
        let (rotations, rotate) = watch::channel(0);
        let (refusals, refused) = watch::channel(0);
        let (weak, bucket, marks) = (ring.downgrade(), purpose.bucket(), Mutex::default());
        (Arc::new(Self { ring: weak, bucket, marks, rotations, refusals }), Followed { ring, rotate, refused })
    }

    /// Returns the time until the first of the keys in use expires.
    pub(super) fn shortest_life(&self) -> Option<Duration> {
        let now = Clock::default().unix_seconds();
        let document = self.ring.upgrade()?.document();
        let lives = document.keys.iter().filter_map(|entry| entry.not_after().checked_sub(now));
        lives.filter(|life| *life > 0).min().map(Duration::from_secs)
    }

    /// Returns the highest revision so far, of either key.
    pub(super) fn newest(&self) -> u64 {
        let marks = self.marks();
        marks.ring.max(marks.rotate)
    }

    /// Reads both keys from the stream's leader.
    pub(super) async fn look_up(&self, bucket: &JwksBucket) -> Result<(), KeysError> {
        self.enter(bucket.created().await?);
        match bucket.read(RING).await? {
            (Some(document), revision) => self.read(&document, revision),
            (None, revision) => self.see(&Change::Gone { key: RING, revision }),
        }
        // A verifier does not rotate.
        if self.rotations.receiver_count() > 0 {
            let (_, revision) = bucket.read(ROTATE).await?;
            self.rotated(revision);
        }
        Ok(())
    }

    fn see(&self, change: &Change<'_>) {
        match change {
            Change::Begin { created } => self.enter(*created),
            Change::Put { key: RING, value, revision } => self.read(value, *revision),
            Change::Put { key: ROTATE, revision, .. } => self.rotated(*revision),
            Change::Gone { key: RING, revision } if *revision > self.raise(*revision) => self.refuse("it was deleted"),
            Change::Loaded | Change::Put { .. } | Change::Gone { .. } => {}
        }
    }

    /// Records that later events are from the stream created at this time.
    fn enter(&self, created: OffsetDateTime) {
        let mut marks = self.marks();
        if marks.created != Some(created) {
            *marks = Marks { created: Some(created), ..Marks::default() };
        }
    }

    /// Records a document at `revision`; returns the previous highest revision.
    fn raise(&self, revision: u64) -> u64 {
        let mut marks = self.marks();
        let newest = marks.ring;
        marks.ring = newest.max(revision);
        newest
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        // Each update is complete before a panic is possible, so poison is harmless.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, document: &[u8], revision: u64) {
        let Some(ring) = self.ring.upgrade() else { return };
        let newest = self.raise(revision);
        match ring.replace_at(revision, document) {
            Ok(is_to_be_mended) => {
                tracing::debug!(bucket = self.bucket, version = ring.version(), "key ring replaced");
                if is_to_be_mended {
                    self.refusals.send_modify(|count| *count += 1);
                }
            }
            // A repeated delivery, or one by a replica that is behind.
            Err(KeyRingError::Stale { .. }) if revision <= newest => {}
            Err(KeyRingError::Stale { current, found }) if current == found && is(&ring, document) => {}
            Err(error) => self.refuse(error),
        }
    }

    fn rotated(&self, revision: u64) {
        let mut marks = self.marks();
        if revision > marks.rotate {
            marks.rotate = revision;
            self.rotations.send_modify(|count| *count += 1);
        }
    }

    fn refuse(&self, reason: impl std::fmt::Display) {
        tracing::error!(bucket = self.bucket, %reason, "ALARM: a key document was refused; the keys in use stay");
        self.refusals.send_modify(|count| *count += 1);
    }
}

/// Returns `true` if `document` is the one in use.
fn is(ring: &KeyRing, document: &[u8]) -> bool {
    let text = |document: &Document| serde_json::to_vec(document).ok();
    serde_json::from_slice(document).ok().and_then(|found| text(&found)) == text(&ring.document())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a document with one key of `issuer`.
    fn document(version: u64, issuer: &str) -> Vec<u8> {
        let kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let key = format!(r#"{{"kid":"{kid}","alg":"EdDSA","typ":"at+jwt","iss":"{issuer}","jwk":{jwk}}}"#);
        format!(r#"{{"version":{version},"keys":[{key}]}}"#).into_bytes()
    }

    /// Returns the number of rejected ones of these documents, each at its revision.
    fn refused(documents: &[(Vec<u8>, u64)]) -> u64 {
        let (sight, followed) = Sight::of(KeyPurpose::AccessTokens);
        for (value, revision) in documents {
            sight.see(&Change::Put { key: RING, value, revision: *revision });
        }
        *followed.refused.borrow()
    }

    #[test]
    fn an_older_document_is_refused_unless_it_is_only_told_late() {
        let (old, new) = (document(1, "a"), document(2, "b"));
        assert_eq!(refused(&[(old.clone(), 1), (new.clone(), 2)]), 0);
        assert_eq!(refused(&[(new.clone(), 2), (old.clone(), 1), (new.clone(), 2)]), 0, "told late, told twice");
        assert_eq!(refused(&[(new.clone(), 2), (old.clone(), 3)]), 1, "put back");
        assert_eq!(refused(&[(new.clone(), 2), (new.clone(), 3)]), 0, "put there once more");
        assert_eq!(refused(&[(new, 2), (document(2, "c"), 3)]), 1, "another of the same version");
        assert_eq!(refused(&[(b"[]".to_vec(), 1), (b"".to_vec(), 2)]), 2, "none at all");
        assert_eq!(refused(&[(document(u64::MAX, "a"), 1), (document(2, "b"), 2)]), 1, "none could follow it");
    }

    /// Returns the creation time of a stream.
    fn second(second: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)
    }

    #[test]
    fn a_request_to_rotate_is_told_once_and_not_again_when_it_is_told_late() {
        let (sight, mut followed) = Sight::of(KeyPurpose::AccessTokens);
        for (revision, is_told, count) in [(3, true, 1), (3, false, 1), (2, false, 1), (0, false, 1), (4, true, 2)] {
            sight.see(&Change::Put { key: ROTATE, value: b"", revision });
            assert_eq!(followed.rotate.has_changed().unwrap(), is_told, "{revision}");
            assert_eq!(*followed.rotate.borrow_and_update(), count, "{revision}");
        }
    }

    #[test]
    fn marks_of_one_stream_say_nothing_of_another() {
        let (sight, mut followed) = Sight::of(KeyPurpose::AccessTokens);
        let rotate = |revision| sight.see(&Change::Put { key: ROTATE, value: b"", revision });
        sight.see(&Change::Begin { created: second(1) });
        sight.see(&Change::Put { key: RING, value: &document(7, "a"), revision: 40 });
        rotate(41);
        // The same stream is read again.
        sight.see(&Change::Begin { created: second(1) });
        followed.rotate.mark_unchanged();
        rotate(41);
        assert!(!followed.rotate.has_changed().unwrap());

        sight.see(&Change::Begin { created: second(2) });
        sight.see(&Change::Put { key: RING, value: &document(1, "a"), revision: 1 });
        assert_eq!(*followed.refused.borrow(), 1, "an older document that is news has to be put right");
        rotate(2);
        assert!(followed.rotate.has_changed().unwrap());
    }

    #[test]
    fn a_deletion_is_refused_once_and_only_if_it_is_news() {
        let (sight, followed) = Sight::of(KeyPurpose::AccessTokens);
        sight.see(&Change::Put { key: RING, value: &document(1, "a"), revision: 2 });
        for (revision, refused) in [(1, 0), (2, 0), (3, 1), (3, 1), (4, 2)] {
            sight.see(&Change::Gone { key: RING, revision });
            assert_eq!(*followed.refused.borrow(), refused, "{revision}");
        }
        assert_eq!(followed.ring.version(), 1);
    }
}
