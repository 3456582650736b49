//! Watches a KV bucket: delivers its contents, then every change, until the watcher is dropped.

mod consumer;

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nats_rpc::kv::leader;
use nats_rpc::kv::range::{self, By};
use nats_rpc::{Connection, KvBucket, KvError, KvRecord};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::consumer::Consumer;
use super::doubled::doubled;

/// The pause before a retry; each failed retry doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two retries; a random part adds up to half as much.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The timeout of opening the bucket and its consumer, after which it is retried.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// The maximum silence during an incomplete history, after which it is read again. The delivering replica may be
/// behind the leader, and the next one that is selected may not.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);
/// The time for which a bucket is read without a consumer after two clients died: a record that ends clients could be
/// written repeatedly.
const CALM: Duration = Duration::from_secs(60);
/// The interval of these reads.
const POLL_EVERY: Duration = Duration::from_secs(2);

type BoxError = Box<dyn Error + Send + Sync>;

/// An event of a [`Follower`]'s bucket, in the bucket's order.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The history begins, for the first time or again. A key that does not occur before [`Loaded`](Self::Loaded) is
    /// no longer in the bucket. Revisions of one stream cannot be compared with those of another one of the same name,
    /// which was `created` at another time.
    Begin { created: OffsetDateTime },
    /// A key has this value.
    Put { key: &'a str, value: &'a [u8], revision: u64 },
    /// A key was deleted, purged, or has expired.
    Gone { key: &'a str, revision: u64 },
    /// The complete history was delivered; new changes follow.
    Loaded,
}

/// The size of a bucket's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// A few keys. They are read one by one, so that not even the first read ends a client.
    Short,
    /// Up to thousands of keys.
    Long,
}

/// The progress of a [`Follower`], and its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The creation time of the stream, which distinguishes it from another one of the same name.
    pub(crate) created: OffsetDateTime,
    /// The sequence up to which everything was delivered.
    pub(crate) sequence: u64,
}

/// Watches one bucket until it is dropped.
///
/// After a lost connection it resumes at the last position. After a renewal of the connection, an error, or
/// [`resync`](Self::resync), it reads the whole history again, announced by [`Change::Begin`].
///
/// In a cluster any replica may deliver the history, including one that is behind. So the history counts as complete
/// only once it has reached the leader's last message, as queried after the read began.
///
/// The bucket must hold at least one permanent key: JetStream delivers nothing from an empty bucket, so that "empty"
/// could not be distinguished from "not delivered yet". Provisioning writes that key.
///
/// A record with a bad header ends the client to which it is delivered. So a [short history](History::Short), and any
/// history after such an end, is read record by record, which is safe, and a consumer delivers new changes only. After
/// a second end within a minute, no consumer is used for a minute.
///
/// It needs only `STREAM.INFO`, `STREAM.MSG.GET`, `CONSUMER.CREATE` and `CONSUMER.DELETE` of the bucket's stream.
pub(crate) struct Follower {
    bucket: String,
    /// The progress, once the history is complete.
    seen: watch::Receiver<Option<Seen>>,
    resync: Arc<Notify>,
    task: AbortHandle,
}

impl Follower {
    /// Opens `bucket` and calls `see` with each of its events, in a separate task.
    ///
    /// # Errors
    /// [`KvError::Missing`] if it was not provisioned, [`KvError::JetStream`] if JetStream does not return it.
    pub(crate) async fn start(
        connection: &Connection,
        bucket: &str,
        history: History,
        see: impl FnMut(Change<'_>) + Send + 'static,
    ) -> Result<Self, KvError> {
        let opened = KvBucket::open(connection, bucket).await?;
        let (sender, seen) = watch::channel(None);
        let resync = Arc::new(Notify::new());
        let follow = follow(connection.clone(), opened, history, see, sender, resync.clone());
        let task = tokio::spawn(follow).abort_handle();
        Ok(Self { bucket: bucket.to_owned(), seen, resync, task })
    }

    /// Waits until the history is complete.
    ///
    /// # Errors
    /// [`NotLoaded`] if that takes longer than `limit`.
    pub(crate) async fn loaded(&self, limit: Duration) -> Result<(), NotLoaded> {
        let mut seen = self.seen.clone();
        match tokio::time::timeout(limit, seen.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotLoaded { bucket: self.bucket.clone(), waited: limit }),
        }
    }

    /// Returns the progress, or `None` until the history is complete.
    ///
    /// If the last sequence of that stream (`STREAM.INFO`) is no higher, the stream held nothing newer when it was
    /// queried.
    pub(crate) fn seen(&self) -> Option<Seen> {
        *self.seen.borrow()
    }

    /// Reads the whole history again, for example if the stream was replaced by another one.
    pub(crate) fn resync(&self) {
        self.resync.notify_one();
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("bucket", &self.bucket).field("seen", &*self.seen.borrow()).finish()
    }
}

/// A bucket's history did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what the KV bucket {bucket} holds did not arrive within {waited:?}; if it is empty, run `provision`{}",
    or_permit(.bucket)
)]
pub(crate) struct NotLoaded {
    pub(crate) bucket: String,
    pub(crate) waited: Duration,
}

/// Names another possible cause of a missing history: nats-server does not reply to a forbidden request.
pub(super) fn or_permit(bucket: &str) -> String {
    format!(
        "; if nats-server logs a permissions violation, give this user a permission for \
         \"$JS.API.STREAM.MSG.GET.KV_{bucket}\" and what else `permissions` prints"
    )
}

async fn follow(
    connection: Connection,
    bucket: KvBucket,
    history: History,
    mut see: impl FnMut(Change<'_>) + Send,
    seen: watch::Sender<Option<Seen>>,
    resync: Arc<Notify>,
) {
    let mut in_vain = 0_u32;
    let mut way = match history {
        History::Long => Way::Consumer,
        History::Short => Way::Records,
    };
    let mut died: Option<Instant> = None;
    loop {
        let generation = connection.generation();
        let ended: Box<dyn Error + Send + Sync> = tokio::select! {
            // The consumer of a dead client may stay silent forever.
            _ = connection.wait_for_renewal(generation) => {
                // A record with a bad header may have ended the client, and would end the next one too.
                let again = died.replace(Instant::now()).is_some_and(|before| before.elapsed() < CALM);
                way = if again { Way::Polling } else { Way::Records };
                "the connection was renewed".into()
            }
            () = resync.notified() => "it is to be read anew".into(),
            error = read(&bucket, history, way, &mut see, &seen) => {
                if way == Way::Polling && died.is_none_or(|at| at.elapsed() >= CALM) {
                    way = Way::Records;
                }
                error
            }
        };
        tracing::warn!(bucket = bucket.name(), reason = %ended, "following a KV bucket begins anew");
        // Progress is invalid until the history has been read again.
        in_vain = if seen.send_replace(None).is_some() { 0 } else { in_vain.saturating_add(1) };
        tokio::time::sleep(pause(in_vain, fastrand::f64())).await;
    }
}

/// Returns the pause after `in_vain` consecutive reads that did not complete the history. `share` (0 to 1) adds up to
/// half as much, so that instances do not retry in lockstep.
fn pause(in_vain: u32, share: f64) -> Duration {
    doubled(FIRST_PAUSE, in_vain, LONGEST_PAUSE).mul_f64(1.0 + share / 2.0)
}

/// The method of reading a bucket. Each is slower and more robust than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A consumer delivers history and changes.
    Consumer,
    /// The history is read record by record, a consumer delivers the changes: a record that ends a client is never
    /// delivered.
    Records,
    /// History and changes are read record by record.
    Polling,
}

/// Reads the history and then the changes; returns the reason of its end.
async fn read(
    bucket: &KvBucket,
    history: History,
    way: Way,
    see: &mut (impl FnMut(Change<'_>) + Send),
    seen: &watch::Sender<Option<Seen>>,
) -> Box<dyn Error + Send + Sync> {
    let mut reading = Reading { bucket, history, see, seen };
    let read = async {
        let at = match way {
            Way::Consumer => None,
            Way::Records | Way::Polling => Some(reading.records().await?),
        };
        match way {
            Way::Polling => reading.poll(at).await,
            Way::Consumer | Way::Records => reading.consume(at).await,
        }
    };
    match read.await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

struct Reading<'a, See> {
    bucket: &'a KvBucket,
    history: History,
    see: &'a mut See,
    seen: &'a watch::Sender<Option<Seen>>,
}

impl<See: FnMut(Change<'_>) + Send> Reading<'_, See> {
    /// Reads the history record by record, from the leader.
    async fn records(&mut self) -> Result<Seen, BoxError> {
        let handles = self.bucket.current().await?;
        let info = leader::info(&handles.store).await?;
        (self.see)(Change::Begin { created: info.created });
        let newest = range::read(&handles, 0, By::Records, |record| self.told(&record)).await?;
        (self.see)(Change::Loaded);
        let at = Seen { created: info.created, sequence: info.state.last_sequence.max(newest) };
        self.seen.send_replace(Some(at));
        Ok(at)
    }

    /// Reads the records after `at` every two seconds, for a minute.
    async fn poll(&mut self, at: Option<Seen>) -> Result<Infallible, BoxError> {
        let mut at = at.ok_or("its history was not read")?;
        let end = Instant::now() + CALM;
        while Instant::now() < end {
            tokio::time::sleep(POLL_EVERY.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
            let handles = self.bucket.current().await?;
            let newest = range::read(&handles, at.sequence + 1, By::Records, |record| self.told(&record)).await?;
            at.sequence = at.sequence.max(newest);
            self.seen.send_replace(Some(at));
        }
        Err("a minute has passed without a consumer".into())
    }

    /// Delivers everything, or the records after `at`, by a consumer.
    async fn consume(&mut self, mut at: Option<Seen>) -> Result<Infallible, BoxError> {
        loop {
            let open = async {
                let handles = self.bucket.current().await?;
                // The last message before the consumer began may be deleted, and is then never delivered.
                let info = leader::info(&handles.store).await?;
                if at.is_some_and(|at| at.created != info.created) {
                    return Err("it is another one".into());
                }
                let consumer = Consumer::open(&handles, at.map_or(0, |at| at.sequence + 1)).await?;
                let newest = handles.newest().await?.ok_or("it is empty: run `provision`")?;
                Ok::<_, BoxError>((handles, consumer, info, newest.revision))
            };
            let (handles, mut consumer, info, last) = tokio::time::timeout(OPEN_LIMIT, open).await??;
            let mut reached = match at {
                Some(at) => at,
                None => {
                    (self.see)(Change::Begin { created: info.created });
                    Seen { created: info.created, sequence: info.state.last_sequence }
                }
            };
            let ended = loop {
                let limit = if at.is_some() { Duration::MAX } else { SILENCE_LIMIT };
                let delivery = match tokio::time::timeout(limit, consumer.next()).await {
                    Ok(Ok(delivery)) => delivery,
                    Ok(Err(error)) => break error,
                    Err(_) => break format!("its history does not come as far as {last}, the last message").into(),
                };
                reached.sequence = reached.sequence.max(delivery.revision);
                (self.see)(match &delivery.value {
                    Some(value) => Change::Put { key: &delivery.key, value, revision: delivery.revision },
                    None => Change::Gone { key: &delivery.key, revision: delivery.revision },
                });
                if at.is_none() && is_all(delivery.revision, delivery.pending, last) {
                    at = Some(reached);
                    (self.see)(Change::Loaded);
                }
                if let Some(at) = &mut at {
                    *at = reached;
                    self.seen.send_replace(Some(*at));
                }
            };
            consumer.close(&handles).await;
            if at.is_none() {
                return Err(ended);
            }
            // The read resumes at the last position.
            tracing::debug!(bucket = self.bucket.name(), reason = %ended, "another consumer goes on");
            tokio::time::sleep(pause(0, fastrand::f64())).await;
        }
    }

    fn told(&mut self, record: &KvRecord) {
        if record.has_bad_headers {
            tracing::error!(
                bucket = self.bucket.name(),
                key = record.key,
                revision = record.revision,
                "ALARM: a record has headers that no client can read"
            );
        }
        let KvRecord { key, revision, .. } = record;
        (self.see)(match &record.value {
            // A document with bad headers is invalid as a whole. A long history has many records, each of which counts
            // separately.
            Some(_) if record.has_bad_headers && self.history == History::Short => {
                Change::Put { key, value: b"", revision: *revision }
            }
            Some(value) => Change::Put { key, value, revision: *revision },
            None => Change::Gone { key, revision: *revision },
        });
    }
}

/// Returns `true` if the history is complete with an entry of `revision`. `pending` is the number of later entries of
/// the delivering replica, `last` the leader's last sequence.
///
/// Both conditions are needed. A replica that is behind has nothing pending either. With something pending, a key may
/// still be missing whose older value was overwritten.
fn is_all(revision: u64, pending: u64, last: u64) -> bool {
    pending == 0 && revision >= last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeysError, RevocationBucketError};

    #[test]
    fn pauses_double_to_5_s_and_differ_by_up_to_a_half() {
        let millis = |share: f64| [0, 1, 6, 7, 1_000].map(|in_vain| pause(in_vain, share).as_millis());
        assert_eq!(millis(0.0), [50, 100, 3_200, 5_000, 5_000]);
        assert_eq!(millis(1.0), [75, 150, 4_800, 7_500, 7_500]);
    }

    #[test]
    fn who_gets_no_history_is_told_which_permission_may_be_missing() {
        let (bucket, waited) = ("auth_jwks".to_owned(), OPEN_LIMIT);
        let not_loaded = NotLoaded { bucket, waited };
        let revocations = RevocationBucketError::NotLoaded { waited };
        for (said, bucket) in [
            (not_loaded.to_string(), "auth_jwks"),
            (KeysError::from(not_loaded).to_string(), "auth_jwks"),
            (revocations.to_string(), "auth_rev"),
        ] {
            assert!(said.contains(&format!("\"$JS.API.STREAM.MSG.GET.KV_{bucket}\"")), "{said}");
            assert!(said.contains("provision`"), "{said}");
        }
    }

    #[test]
    fn a_history_is_all_there_when_nothing_is_pending_and_it_is_as_far_as_the_leader() {
        assert!(is_all(7, 0, 7));
        assert!(is_all(9, 0, 7), "written after the leader was asked");
        assert!(!is_all(6, 0, 7), "of a copy that is behind");
        assert!(!is_all(7, 1, 7), "a key may be missing");
    }
}
