//! Publishes the beacon.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use nats_rpc::kv::leader;
use nats_rpc::kv::range::{self, By};
use nats_rpc::{Connection, KvBucket, KvHandles};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::report::{ASK, Progress, Report, SUBJECT, Window};
use super::window::Changes;
use super::{BEACON_EVERY, Hub, spread, subscribed};
use crate::change_signer::ChangeSigner;
use crate::jwks::{JwksBucket, KeyPurpose, KeysError, RING, ROTATE};
use crate::revocation::{BUCKET, CHANGES};
use crate::{Clock, Document};

/// The additional delay of an instance that did not publish the last beacon: one beacon serves all.
const OTHERS_LATER: Duration = Duration::from_millis(250);
/// The time within which the instances reply to a request for a beacon; the first reply is sufficient.
const ASKED: Duration = Duration::from_millis(50);
/// The maximum transit time of a leader's change.
const ON_ITS_WAY: Duration = Duration::from_millis(100);
/// The time limit for creating a beacon.
const LIMIT: Duration = Duration::from_secs(5);
/// The number of beacons that a window reaches back, so that one may be lost.
const REACH: usize = 3;

type BoxError = Box<dyn Error + Send + Sync>;

/// Publishes the progress of the buckets that decide trust every two seconds, until it is dropped.
///
/// It is for an auth service with its own account
/// ([`NatsConfig::auth_js_api_prefix`](nats_rpc::NatsConfig::auth_js_api_prefix)); otherwise it does nothing. By the
/// beacons each service can check that it has missed nothing, without a request to the leader of a bucket. One beacon
/// serves all: an instance that receives one of another instance publishes none. A key that is published, retired, or
/// due for rotation is announced at once.
///
/// The beacon's subject is `watch.auth_beacon`; [`ChangeSigner`] signs it. It requires `STREAM.INFO` and
/// `STREAM.MSG.GET` of the streams `KV_auth_rev`, `KV_auth_jwks` and `KV_gw_jwks`, and `DIRECT.GET` of the first.
#[derive(Debug)]
#[must_use = "it publishes as long as it is kept"]
pub struct TrustBeacon(Option<AbortHandle>);

impl TrustBeacon {
    /// Starts publishing.
    ///
    /// # Errors
    /// [`KeysError::Bucket`] or [`KeysError::NotProvisioned`] if a bucket cannot be opened.
    pub async fn start(connection: &Connection, signer: &ChangeSigner) -> Result<Self, KeysError> {
        if connection.auth_js_api_prefix().is_none() {
            return Ok(Self(None));
        }
        let bucket = KvBucket::open_of_auth(connection, BUCKET).await.map_err(KeysError::Bucket)?;
        let mut rings = Vec::new();
        if signer.has_rings() {
            for purpose in [KeyPurpose::AccessTokens, KeyPurpose::Assertions] {
                let bucket = JwksBucket::open(connection, purpose).await?;
                rings.push(Ring { bucket, name: purpose.bucket(), known: None });
            }
        }
        let beacon = Beacon {
            connection: connection.clone(),
            hub: signer.hub(connection),
            signer: signer.clone(),
            clock: Clock::default(),
            bucket,
            created: 0,
            complete: 0,
            changes: Changes::default(),
            reported: VecDeque::new(),
            rings,
            sent: 0,
        };
        Ok(Self(Some(tokio::spawn(beacon.run()).abort_handle())))
    }
}

impl Drop for TrustBeacon {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

struct Beacon {
    connection: Connection,
    hub: Arc<Hub>,
    signer: ChangeSigner,
    clock: Clock,
    bucket: KvBucket,
    /// The creation time of the revocations' stream.
    created: i64,
    /// The sequence up to which all its changes are in `changes`.
    complete: u64,
    changes: Changes,
    /// The last sequences of the latest beacons, of any instance.
    reported: VecDeque<u64>,
    rings: Vec<Ring>,
    /// The time in the last beacon of this instance.
    sent: u64,
}

impl Beacon {
    async fn run(mut self) {
        let connection = self.connection.clone();
        loop {
            let generation = connection.generation();
            let nats = connection.nats();
            let mut changes = subscribed(&nats, CHANGES).await;
            let mut asks = subscribed(&nats, ASK).await;
            // From here on no change is missed.
            self.created = 0;
            tokio::select! {
                _ = connection.wait_for_renewal(generation) => {}
                () = self.publish(&nats, &mut changes, &mut asks) => {
                    connection.wait_for_renewal(generation).await;
                }
            }
        }
    }

    /// Publishes until a subscription ends.
    async fn publish(&mut self, nats: &async_nats::Client, changes: &mut Subscriber, asks: &mut Subscriber) {
        let hub = self.hub.clone();
        let mut reports = hub.reports();
        let signer = self.signer.clone();
        // The time of an unanswered request for a beacon.
        let mut asked = None;
        let mut due = Instant::now() + spread(ASKED);
        loop {
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.hear(&change),
                    None => return,
                },
                ask = asks.next() => {
                    if ask.is_none() {
                        return;
                    }
                    asked = Some(self.clock.unix_millis());
                    due = due.min(Instant::now() + spread(ASKED));
                }
                () = signer.published().notified() => {
                    asked = Some(self.clock.unix_millis());
                    due = Instant::now();
                }
                Ok(()) = reports.changed() => {
                    let report = reports.borrow_and_update().clone();
                    let Some(report) = report else { continue };
                    self.note(&report);
                    if asked.is_some_and(|asked| report.at < asked) {
                        continue;
                    }
                    asked = None;
                    due = Instant::now() + BEACON_EVERY;
                    if report.at != self.sent {
                        due += OTHERS_LATER + spread(2 * OTHERS_LATER);
                    }
                }
                () = tokio::time::sleep_until(due) => {
                    due = Instant::now() + BEACON_EVERY;
                    let made = tokio::time::timeout(LIMIT, self.make(changes)).await;
                    let published = match made.map_err(BoxError::from).flatten() {
                        Ok(Some(beacon)) => nats.publish(SUBJECT, beacon.into()).await.map_err(BoxError::from),
                        // The key arrives soon and is announced then.
                        Ok(None) => Ok(()),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = published {
                        tracing::warn!(%error, "no beacon was published: services ask the leaders themselves");
                    }
                }
            }
        }
    }

    /// Records a change of the revocations. In the account of auth, only auth publishes there.
    fn hear(&mut self, change: &Message) {
        let header = |name: &str| change.headers.as_ref()?.get(name).map(|value| value.as_str());
        let key = change.subject.strip_prefix(CHANGES.trim_end_matches('>'));
        let (Some(key), Some(sequence)) = (key, header("Nats-Sequence").and_then(|text| text.parse().ok())) else {
            return;
        };
        if header("KV-Operation").is_none() && header("Nats-Marker-Reason").is_none() {
            self.changes.note(sequence, key, &change.payload);
        }
        if sequence == self.complete + 1 {
            self.complete = sequence;
        }
    }

    /// Records the progress of the revocations according to a beacon.
    fn note(&mut self, report: &Report) {
        if let Some(progress) = report.buckets.get(BUCKET)
            && progress.created == self.created
        {
            self.reported.push_back(progress.last);
            while self.reported.len() > REACH {
                self.reported.pop_front();
            }
        }
    }

    /// Returns the next beacon, or `None` while no key is published.
    async fn make(&mut self, changes: &mut Subscriber) -> Result<Option<Vec<u8>>, BoxError> {
        // Read before the requests to the leaders: a list that is complete up to their replies was complete at this
        // time.
        let at = self.clock.unix_millis();
        let mut buckets = BTreeMap::new();
        buckets.insert(BUCKET.to_owned(), self.revocations(changes).await?);
        for ring in &mut self.rings {
            match ring.progress().await {
                Ok(progress) => drop(buckets.insert(ring.name.to_owned(), progress)),
                Err(error) => tracing::warn!(%error, bucket = ring.name, "a beacon says nothing of a key ring"),
            }
        }
        let signed = Report { at, buckets }.signed(self.signer.signer())?;
        if signed.is_some() {
            self.sent = at;
        }
        Ok(signed)
    }

    async fn revocations(&mut self, changes: &mut Subscriber) -> Result<Progress, BoxError> {
        let handles = self.bucket.current().await?;
        let info = leader::info(&handles.store).await?;
        let (created, last) = (leader::created(&info), info.state.last_sequence);
        if created != self.created {
            (self.created, self.complete, self.changes) = (created, last, Changes::after(last));
            self.reported = [last].into();
        }
        while self.complete < last
            && let Ok(Some(change)) = tokio::time::timeout(ON_ITS_WAY, changes.next()).await
        {
            self.hear(&change);
        }
        if self.complete < last {
            self.read(&handles, last).await?;
        }
        let after = self.reported.iter().copied().min().unwrap_or(last).min(last);
        let window = self.changes.digest(after, last).map(|digest| Window { after, digest });
        Ok(Progress { created, last, changed: None, window })
    }

    /// Reads the changes that were not received, up to `last`.
    async fn read(&mut self, handles: &KvHandles, last: u64) -> Result<(), BoxError> {
        self.changes.forget(self.complete, last);
        let changes = &mut self.changes;
        let newest = range::read(handles, self.complete + 1, By::Batches, |record| {
            if let Some(value) = &record.value {
                changes.note(record.revision, &record.key, value);
            }
        });
        self.complete = newest.await?.max(last);
        Ok(())
    }
}

/// A key ring, as last read.
struct Ring {
    bucket: JwksBucket,
    name: &'static str,
    known: Option<Known>,
}

struct Known {
    created: i64,
    last: u64,
    changed: u64,
    document: Option<Document>,
    rotated: u64,
}

impl Ring {
    async fn progress(&mut self) -> Result<Progress, BoxError> {
        let handles = self.bucket.current().await?;
        let info = leader::info(&handles.store).await?;
        let (created, last) = (leader::created(&info), info.state.last_sequence);
        let is_known = self.known.as_ref().is_some_and(|known| (known.created, known.last) == (created, last));
        if !is_known {
            let (document, _) = self.bucket.read(RING).await?;
            let (_, rotated) = self.bucket.read(ROTATE).await?;
            let document = document.and_then(|document| serde_json::from_slice::<Document>(&document).ok());
            // The last sequence, unless keys were only extended, as far as known.
            let changed = match &self.known {
                Some(known) if known.created == created && known.rotated == rotated => {
                    match (&known.document, &document) {
                        (Some(earlier), Some(later)) if is_prolonged(earlier, later) => known.changed,
                        _ => last,
                    }
                }
                _ => last,
            };
            self.known = Some(Known { created, last, changed, document, rotated });
        }
        let changed = self.known.as_ref().map(|known| known.changed);
        Ok(Progress { created, last, changed, window: None })
    }
}

/// Returns `true` if `later` has the keys of `earlier`, each for at least as long, and no others.
fn is_prolonged(earlier: &Document, later: &Document) -> bool {
    earlier.keys.len() == later.keys.len()
        && earlier.keys.iter().all(|key| later.entry(&key.kid).is_some_and(|it| key.outlived_by(it)))
}
