//! A KV bucket in memory: what is in it, then every change, for as long as anybody wants it.

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

/// The pause before a new try; each that is in vain doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries; up to half as much comes on top.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long opening the bucket and its consumer may take before it is tried anew.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing may come of a history that is not all there before it is read anew: who delivers it may be
/// behind the leader, and the next one that is asked may not.
const SILENCE_LIMIT: Duration = Duration::from_secs(3);
/// Time for which a bucket is read without a consumer after two clients died: a record that ends clients
/// could be written again and again.
const CALM: Duration = Duration::from_secs(60);
/// Interval of these reads.
const POLL_EVERY: Duration = Duration::from_secs(2);

type BoxError = Box<dyn Error + Send + Sync>;

/// What a [`Follower`] sees of its bucket, in the bucket's order.
#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The history comes, for the first time or once more. What it lacks when [`Loaded`](Self::Loaded)
    /// follows is no longer in the bucket. The revisions of one stream say nothing of those of another of its name,
    /// which was `created` at another time.
    Begin { created: OffsetDateTime },
    /// A key has this value.
    Put { key: &'a str, value: &'a [u8], revision: u64 },
    /// A key was deleted, purged, or has expired.
    Gone { key: &'a str, revision: u64 },
    /// All that was in the bucket has been seen; from here on it is news.
    Loaded,
}

/// Size of the history of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    /// A handful of keys: they are read one by one, so that not even the first reading ends a client.
    Short,
    /// Perhaps thousands.
    Long,
}

/// How far a [`Follower`] has come, and in which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When the stream was created, by which one is told from another of its name.
    pub(crate) created: OffsetDateTime,
    /// Up to which sequence all has been seen.
    pub(crate) sequence: u64,
}

/// Follows one bucket until it is dropped.
///
/// A lost connection is taken up where it broke. After a renewal of the connection, an error, or
/// [`resync`](Self::resync), the whole history comes again, announced by [`Change::Begin`].
///
/// In a cluster any server that has a copy may deliver the history, also one whose copy is behind. So it
/// counts as seen only once it has come as far as what the leader said to be the last message, when asked
/// after the reading had begun.
///
/// The bucket must hold at least one key that stays: on an empty one JetStream delivers nothing at all, so
/// that "nothing there" could not be told from "nothing yet". Whoever provisions a bucket puts it there.
///
/// A record with a bad header ends the client that it is delivered to. So a [short history](History::Short), and any
/// history after that has happened, is read record by record, which does no harm, and only the news come by a
/// consumer. After a second time within a minute, nothing comes by a consumer for a minute.
///
/// It needs `STREAM.INFO`, `STREAM.MSG.GET`, `CONSUMER.CREATE` and `CONSUMER.DELETE` of the bucket's stream and
/// no more.
pub(crate) struct Follower {
    bucket: String,
    /// How far it has come, once the history has been seen.
    seen: watch::Receiver<Option<Seen>>,
    resync: Arc<Notify>,
    task: AbortHandle,
}

impl Follower {
    /// Opens `bucket` and has `see` told of everything in it, on a task of its own.
    ///
    /// # Errors
    /// [`KvError::Missing`] if it was not provisioned, [`KvError::JetStream`] if JetStream does not give it.
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

    /// Waits until the history has been seen.
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

    /// Up to where everything has been seen; `None` until the history has been.
    ///
    /// That very stream, if its last sequence (`STREAM.INFO`) is no higher, held nothing newer when it was asked.
    pub(crate) fn seen(&self) -> Option<Seen> {
        *self.seen.borrow()
    }

    /// Has the whole history read again, as when the stream turns out to be another one.
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

/// A bucket's history that did not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what the KV bucket {bucket} holds did not arrive within {waited:?}; if it is empty, run `provision`{}",
    or_permit(.bucket)
)]
pub(crate) struct NotLoaded {
    pub(crate) bucket: String,
    pub(crate) waited: Duration,
}

/// What else keeps a history from coming: nats-server does not answer a question that it forbids.
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
            // The consumer of a client that has died may be silent for ever.
            _ = connection.wait_for_renewal(generation) => {
                // A record with a bad header may have ended it, and would end the next one too.
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
        // Nothing that was seen is worth anything until all of it has been seen once more.
        in_vain = if seen.send_replace(None).is_some() { 0 } else { in_vain.saturating_add(1) };
        tokio::time::sleep(pause(in_vain, fastrand::f64())).await;
    }
}

/// The pause after so many tries on end that did not come as far as the end of the history; `share` (0 to 1)
/// makes it up to half as long again, so that instances do not march in step.
fn pause(in_vain: u32, share: f64) -> Duration {
    doubled(FIRST_PAUSE, in_vain, LONGEST_PAUSE).mul_f64(1.0 + share / 2.0)
}

/// The way in which a bucket is read. Each is slower than the one before, and survives more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// History and news by a consumer.
    Consumer,
    /// The history record by record, the news by a consumer: a record that ends a client is delivered to none.
    Records,
    /// Both record by record.
    Polling,
}

/// Reads the bucket from its beginning, and on; gives why that ended.
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

    /// Reads what comes after `at`, each two seconds, for a minute.
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

    /// Has a consumer deliver everything, or what comes after `at`.
    async fn consume(&mut self, mut at: Option<Seen>) -> Result<Infallible, BoxError> {
        loop {
            let open = async {
                let handles = self.bucket.current().await?;
                // The last message before the consumer began may be gone, and is then never delivered.
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
            // It is taken up where it broke.
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
            // A document whose headers are bad is a bad document. Of many records, each counts by itself.
            Some(_) if record.has_bad_headers && self.history == History::Short => {
                Change::Put { key, value: b"", revision: *revision }
            }
            Some(value) => Change::Put { key, value, revision: *revision },
            None => Change::Gone { key, revision: *revision },
        });
    }
}

/// Whether the history is all there with an entry of `revision`, behind which whoever delivers it has `pending`
/// more, and of which the leader says that its last message is `last`.
///
/// Either alone is too little: a copy that is behind has nothing more either, and with something pending a key
/// may still be missing whose older value nobody has any more.
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
