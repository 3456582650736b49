//! Watches a ring without a consumer: by beacons, which contain the progress of its bucket.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bucket::JwksBucket;
use super::follow::Sight;
use crate::watch::{Progress, Report, spread};

/// The maximum delay with which all verifiers read a ring after a key was added or removed.
const PROMPT: Duration = Duration::from_millis(300);
/// The minimum interval between two such reads.
const EVERY: Duration = Duration::from_millis(250);
/// The maximum delay after keys were only extended; each heartbeat of each instance does that.
const LAZY: Duration = Duration::from_secs(240);
/// The lower limit of that delay, even if a key expires soon.
const LEAST_LAZY: Duration = Duration::from_secs(1);
/// The time without a beacon after which a verifier reads the ring itself; a random part adds up to half as much.
const LATE: Duration = Duration::from_secs(10);

/// Reads the ring on request, when a beacon announces a change, or when no beacon arrives.
pub(super) async fn watch(
    asked: Arc<Notify>,
    bucket: JwksBucket,
    name: &'static str,
    sight: Arc<Sight>,
    mut reports: watch::Receiver<Option<Arc<Report>>>,
) {
    let mut created = None;
    // The last sequence of the bucket at the last read, including keys that a verifier does not read.
    let mut read = 0;
    let mut last = Instant::now();
    let (mut late_at, mut read_at) = (last + late(), None);
    reports.mark_changed();
    loop {
        let due = read_at.map_or(late_at, |at: Instant| at.min(late_at));
        tokio::select! {
            () = asked.notified() => {}
            () = tokio::time::sleep_until(due) => {}
            changed = reports.changed() => {
                if changed.is_err() {
                    // The hub has ended, and so has the user of this watch.
                    std::future::pending::<()>().await;
                }
                let report = reports.borrow_and_update().clone();
                let Some(progress) = report.as_ref().and_then(|report| report.buckets.get(name)) else { continue };
                let is_another = created.replace(progress.created).is_some_and(|known| known != progress.created);
                let now = Instant::now();
                late_at = now + late();
                let known = if is_another { 0 } else { read.max(sight.newest()) };
                // A read that is already due is not delayed.
                read_at = match kind(progress, known) {
                    Kind::Changed => {
                        let next = (now + spread(PROMPT)).max(last + EVERY);
                        Some(read_at.map_or(next, |at| next.min(at)))
                    }
                    Kind::Prolonged => read_at.or_else(|| Some(now + spread(lazy(sight.shortest_life())))),
                    Kind::Known => None,
                };
                continue;
            }
        }
        last = Instant::now();
        (late_at, read_at) = (last + late(), None);
        let reached = reports.borrow().as_ref().and_then(|report| Some(report.buckets.get(name)?.last));
        match sight.look_up(&bucket).await {
            Ok(()) => read = reached.unwrap_or_default(),
            Err(error) => tracing::debug!(%error, bucket = name, "the key ring was not looked up"),
        }
    }
}

/// Returns the maximum delay of a read after keys were extended, if the first known key expires in `life`.
fn lazy(life: Option<Duration>) -> Duration {
    life.map_or(LAZY, |life| (life / 3).clamp(LEAST_LAZY, LAZY))
}

fn late() -> Duration {
    LATE + spread(LATE / 2)
}

/// The change of a ring that a beacon announces, relative to the known state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Known,
    Prolonged,
    Changed,
}

fn kind(progress: &Progress, known: u64) -> Kind {
    match progress.changed.unwrap_or(progress.last) {
        changed if changed > known => Kind::Changed,
        _ if progress.last > known => Kind::Prolonged,
        _ => Kind::Known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prolonged_ring_is_read_long_before_a_key_ends() {
        let seconds = Duration::from_secs;
        let lazy = |life: u64| lazy(Some(seconds(life)));
        assert_eq!([1_081, 191, 4, 0].map(lazy), [seconds(240), seconds(191) / 3, seconds(4) / 3, seconds(1)]);
        assert_eq!(super::lazy(None), seconds(240));
    }

    #[test]
    fn ring_is_read_soon_only_if_its_keys_have_changed() {
        let progress = |changed, last| Progress { created: 1, last, changed, window: None };
        assert_eq!(kind(&progress(Some(5), 9), 9), Kind::Known);
        assert_eq!(kind(&progress(Some(5), 9), 12), Kind::Known, "an old beacon");
        assert_eq!(kind(&progress(Some(5), 9), 6), Kind::Prolonged);
        assert_eq!(kind(&progress(Some(7), 9), 6), Kind::Changed);
        assert_eq!(kind(&progress(None, 9), 6), Kind::Changed);
    }
}
