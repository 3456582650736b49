//! Watching the revocations without a consumer: by signed changes, and beacons that prove them complete.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use futures::StreamExt;
use nats_rpc::kv::leader;
use nats_rpc::kv::range::{self, By};
use nats_rpc::{Connection, KvBucket};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::bucket::{BUCKET, RevocationBucketError};
use super::replica::{LOAD_LIMIT, apply};
use super::signed::{Signed, bytes};
use crate::watch::{BEACON_EVERY, Changes, Hub, Progress, ReadLimit, Refused, Report, spread, subscribed};
use crate::{Clock, DenyList, SignatureError, Target};

/// The changes of the bucket, as nats-server republishes them.
pub(crate) const CHANGES: &str = "watch.auth_rev.>";
const CHANGE: &str = "watch.auth_rev.";
/// Time limit of a read.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// The longest pause before a read that failed is tried again at a start.
const RETRY: Duration = Duration::from_millis(500);

type BoxError = Box<dyn Error + Send + Sync>;

/// Keeps `list` up to date until the task is aborted; returns once the complete bucket is loaded.
pub(super) async fn watch(
    connection: &Connection,
    hub: Arc<Hub>,
    list: Arc<DenyList>,
    max_stale: Duration,
) -> Result<AbortHandle, RevocationBucketError> {
    let bucket = KvBucket::open_of_auth(connection, BUCKET).await?;
    let (loaded, mut is_loaded) = watch::channel(false);
    let watcher = Watcher {
        connection: connection.clone(),
        bucket,
        hub,
        list,
        patience: max_stale / 3,
        state: State::default(),
        clock: Clock::default(),
        limit: ReadLimit::default(),
        refused: Refused::default(),
        ask_at: Instant::now(),
        read_at: None,
        by: By::Batches,
    };
    let task = tokio::spawn(watcher.run(loaded)).abort_handle();
    match tokio::time::timeout(LOAD_LIMIT, is_loaded.wait_for(|loaded| *loaded)).await {
        Ok(Ok(_)) => Ok(task),
        _ => {
            task.abort();
            Err(RevocationBucketError::NotLoaded { waited: LOAD_LIMIT })
        }
    }
}

struct Watcher {
    connection: Connection,
    bucket: KvBucket,
    hub: Arc<Hub>,
    list: Arc<DenyList>,
    /// Time without a proof of completeness after which this process queries the leader.
    patience: Duration,
    state: State,
    clock: Clock,
    limit: ReadLimit,
    refused: Refused,
    /// Instant at which this process queries the leader, unless a beacon proves the list complete before.
    ask_at: Instant,
    /// Instant at which the bucket is read because a change is missing.
    read_at: Option<Instant>,
    /// The last method that worked.
    by: By,
}

/// Known changes of the bucket.
#[derive(Debug, Default)]
struct State {
    created: i64,
    /// The sequence up to which the list is complete.
    complete: u64,
    changes: Changes,
}

/// The consequence of a beacon for this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The list was complete when the sender of the beacon queried the leader.
    Complete,
    /// A change is missing, or still in transit.
    Behind,
    /// The beacon is about another stream of that name.
    Another,
}

impl State {
    fn judge(&mut self, progress: &Progress) -> Verdict {
        if progress.created != self.created {
            return Verdict::Another;
        }
        if progress.last > self.complete {
            let is_all = progress.window.as_ref().is_some_and(|window| {
                window.after <= self.complete
                    && self.changes.digest(window.after, progress.last).as_ref() == Some(&window.digest)
            });
            if !is_all {
                return Verdict::Behind;
            }
            self.complete = progress.last;
        }
        Verdict::Complete
    }
}

impl Watcher {
    async fn run(mut self, loaded: watch::Sender<bool>) {
        let connection = self.connection.clone();
        loop {
            let generation = connection.generation();
            let nats = connection.nats();
            let mut changes = subscribed(&nats, CHANGES).await;
            let first = async {
                // Later writes must not be missed.
                nats.flush().await?;
                self.read_all().await
            };
            let first = tokio::select! {
                _ = connection.wait_for_renewal(generation) => {
                    // A record with a bad header ends the client that reads it in a batch.
                    self.by = By::Records;
                    continue;
                }
                first = tokio::time::timeout(READ_LIMIT, first) => first.map_err(BoxError::from).flatten(),
            };
            if let Err(error) = first {
                // Permissions may forbid batch reads, or every replica is behind the leader.
                self.by = By::Records;
                tracing::warn!(%error, "the KV bucket {BUCKET} was not read; trying again");
                tokio::time::sleep(RETRY + spread(RETRY)).await;
                continue;
            }
            loaded.send_replace(true);
            self.follow(generation, &mut changes).await;
            self.by = By::Batches;
        }
    }

    /// Applies messages until everything must be read again.
    async fn follow(&mut self, generation: u64, changes: &mut async_nats::Subscriber) {
        let mut reports = self.hub.reports();
        reports.mark_changed();
        let mut sweep = tokio::time::interval(BEACON_EVERY);
        loop {
            let read_at = self.read_at;
            let read = async {
                match read_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.connection.wait_for_renewal(generation) => return,
                change = changes.next() => {
                    let Some(change) = change else { return };
                    // This may be the change that the last beacon announced.
                    if self.take(&change) && self.read_at.is_some() && !self.judge(reports.borrow().as_deref()) {
                        return;
                    }
                }
                Ok(()) = reports.changed() => {
                    if !self.judge(reports.borrow_and_update().as_deref()) {
                        return;
                    }
                }
                () = read => if !self.catch_up().await { return },
                () = tokio::time::sleep_until(self.ask_at) => if !self.catch_up().await { return },
                _ = sweep.tick() => self.list.sweep(),
            }
        }
    }

    /// Applies a change that auth signed, and ignores any other; returns `true` if it was applied.
    fn take(&mut self, change: &Message) -> bool {
        let Some(key) = change.subject.strip_prefix(CHANGE) else { return false };
        let header = |name: &str| change.headers.as_ref()?.get(name).map(|value| value.as_str());
        // The marker of a removed key. Entries expire by their own time limit.
        if header("KV-Operation").is_some() || header("Nats-Marker-Reason").is_some() {
            return false;
        }
        let (Some(target), Ok(Signed { terms, kid: Some(kid), sig: Some(sig) })) =
            (Target::from_key(key), serde_json::from_slice(&change.payload))
        else {
            self.refused.note("a change is not signed");
            return false;
        };
        if let Err(error) = self.hub.verify(&kid, &sig, &bytes(key, terms)) {
            self.refused.note(match error {
                SignatureError::UnknownKey => "the key ring has no such key",
                SignatureError::Invalid => "the signature of a change is not valid",
            });
            return false;
        }
        self.list.put(target, terms);
        // A header names its position in the stream. The digest of the next beacon verifies it.
        if let Some(sequence) = header("Nats-Sequence").and_then(|text| text.parse().ok()) {
            self.state.changes.note(sequence, key, &change.payload);
        }
        true
    }

    /// Evaluates a beacon; returns `false` if everything must be read again.
    fn judge(&mut self, report: Option<&Report>) -> bool {
        let Some((report, progress)) = report.and_then(|it| Some((it, it.buckets.get(BUCKET)?))) else { return true };
        match self.state.judge(progress) {
            Verdict::Complete => {
                self.read_at = None;
                let age = Duration::from_millis(self.clock.unix_millis().saturating_sub(report.at));
                // The list is complete as of that time, and never as of a later time than now.
                if let Some(moment) = std::time::Instant::now().checked_sub(age) {
                    self.list.confirm(moment);
                    if let Some(ask_at) = (Instant::now() + self.wait()).checked_sub(age) {
                        self.ask_at = self.ask_at.max(ask_at);
                    }
                }
                true
            }
            Verdict::Behind => {
                if self.read_at.is_none() {
                    self.read_at = Some(self.limit.next(Instant::now(), fastrand::f64()));
                }
                true
            }
            Verdict::Another => {
                tracing::warn!("the KV bucket {BUCKET} is another one; it is read anew");
                false
            }
        }
    }

    fn wait(&self) -> Duration {
        self.patience + spread(self.patience / 2)
    }

    /// Requests the last sequence from the leader, and reads the missing records; returns `false` if it is another
    /// bucket.
    async fn catch_up(&mut self) -> bool {
        let began = Instant::now();
        let before = self.state.complete;
        let read = tokio::time::timeout(READ_LIMIT, self.read_on()).await;
        self.limit.note(began, self.state.complete > before);
        self.read_at = None;
        match read.map_err(BoxError::from).flatten() {
            Ok(is_the_same) => {
                self.ask_at = began + self.wait();
                is_the_same
            }
            Err(error) => {
                tracing::debug!(%error, "the KV bucket {BUCKET} does not say what it holds");
                self.ask_at = Instant::now() + self.wait().min(BEACON_EVERY + spread(BEACON_EVERY / 2));
                true
            }
        }
    }

    async fn read_on(&mut self) -> Result<bool, BoxError> {
        let asked = std::time::Instant::now();
        let handles = self.bucket.current().await?;
        let info = leader::info(&handles.store).await?;
        if leader::created(&info) != self.state.created {
            return Ok(false);
        }
        let (after, last) = (self.state.complete, info.state.last_sequence);
        if last > after {
            self.state.changes.forget(after, last);
            let (list, changes) = (&self.list, &mut self.state.changes);
            let newest = range::read(&handles, after + 1, self.by, |record| {
                apply(list, &record);
                if let Some(value) = &record.value {
                    changes.note(record.revision, &record.key, value);
                }
            })
            .await?;
            self.state.complete = last.max(newest);
        }
        self.list.confirm(asked);
        Ok(true)
    }

    /// Reads everything.
    async fn read_all(&mut self) -> Result<(), BoxError> {
        let asked = std::time::Instant::now();
        let handles = self.bucket.current().await?;
        let info = leader::info(&handles.store).await?;
        self.state = State { created: leader::created(&info), ..State::default() };
        self.read_at = None;
        self.list.begin();
        let (list, changes) = (&self.list, &mut self.state.changes);
        let newest = range::read(&handles, 0, self.by, |record| {
            apply(list, &record);
            if let Some(value) = &record.value {
                changes.note(record.revision, &record.key, value);
            }
        })
        .await?;
        self.list.loaded();
        self.state.complete = info.state.last_sequence.max(newest);
        self.list.confirm(asked);
        self.ask_at = Instant::now() + self.wait();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Window;

    /// Creates a state that is complete up to 10, with later changes.
    fn state(changes: &[(u64, &str)]) -> State {
        let mut state = State { created: 1, complete: 10, changes: Changes::default() };
        changes.iter().for_each(|(sequence, key)| state.changes.note(*sequence, key, b"v"));
        state
    }

    fn progress(after: u64, last: u64, changes: &[(u64, &str)]) -> Progress {
        let digest = state(changes).changes.digest(after, last).unwrap();
        Progress { created: 1, last, changed: None, window: Some(Window { after, digest }) }
    }

    #[test]
    fn list_is_complete_only_with_the_matching_digest() {
        let all = [(11, "a"), (12, "b")];
        let beacon = progress(10, 12, &all);
        let mut complete = state(&all);
        assert_eq!((complete.judge(&beacon), complete.complete), (Verdict::Complete, 12));
        for lacking in [&[][..], &all[..1], &all[1..], &[(11, "a"), (12, "c")]] {
            let mut state = state(lacking);
            assert_eq!((state.judge(&beacon), state.complete), (Verdict::Behind, 10), "{lacking:?}");
        }
        // A valid change that an attacker replays instead of the lost one.
        assert_eq!(state(&[(11, "a"), (12, "a")]).judge(&beacon), Verdict::Behind);
    }

    #[test]
    fn a_window_has_to_begin_where_the_list_is_complete() {
        let all = [(9, "x"), (12, "b")];
        assert_eq!(state(&all).judge(&progress(8, 12, &all)), Verdict::Complete);
        assert_eq!(state(&all).judge(&progress(11, 12, &all)), Verdict::Behind);
        let bare = Progress { window: None, ..progress(10, 12, &all) };
        assert_eq!(state(&all).judge(&bare), Verdict::Behind);
        assert_eq!(state(&[]).judge(&Progress { last: 10, ..bare.clone() }), Verdict::Complete, "nothing is new");
        assert_eq!(state(&[]).judge(&Progress { last: 3, ..bare }), Verdict::Complete, "an old one changes nothing");
    }

    #[test]
    fn another_stream_of_the_name_is_read_anew() {
        let other = Progress { created: 2, ..progress(10, 10, &[]) };
        assert_eq!(state(&[]).judge(&other), Verdict::Another);
    }
}
