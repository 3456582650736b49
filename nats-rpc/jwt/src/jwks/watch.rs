//! Watching a ring without a consumer: by beacons, which say how far its bucket has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bucket::JwksBucket;
use super::follow::Sight;
use crate::watch::{Progress, Report, spread};

/// Within this time all verifiers read a ring to which a key was added, or from which one was taken.
const PROMPT: Duration = Duration::from_millis(300);
/// The least time between two such reads.
const EVERY: Duration = Duration::from_millis(250);
/// Within this time they read one whose keys are only prolonged; each heartbeat of each instance does that.
const LAZY: Duration = Duration::from_secs(240);
/// Within this time at least, however soon a key ends.
const LEAST_LAZY: Duration = Duration::from_secs(1);
/// Without a beacon for so long, up to half as long again, a verifier reads the ring itself.
const LATE: Duration = Duration::from_secs(10);

/// Looks the ring up whenever somebody asks, a beacon says that it has changed, or no beacon comes.
pub(super) async fn watch(
    asked: Arc<Notify>,
    bucket: JwksBucket,
    name: &'static str,
    sight: Arc<Sight>,
    mut reports: watch::Receiver<Option<Arc<Report>>>,
) {
    let mut created = None;
    // Last sequence of the bucket at the last read, including keys that a verifier does not read.
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
                    // The hub has ended, and with it whatever this is for.
                    std::future::pending::<()>().await;
                }
                let report = reports.borrow_and_update().clone();
                let Some(progress) = report.as_ref().and_then(|report| report.buckets.get(name)) else { continue };
                let is_another = created.replace(progress.created).is_some_and(|known| known != progress.created);
                let now = Instant::now();
                late_at = now + late();
                let known = if is_another { 0 } else { read.max(sight.newest()) };
                // A read that is due already stays so.
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

/// Within which time a ring is read whose keys were prolonged, if the first of those that are known ends in `life`.
fn lazy(life: Option<Duration>) -> Duration {
    life.map_or(LAZY, |life| (life / 3).clamp(LEAST_LAZY, LAZY))
}

fn late() -> Duration {
    LATE + spread(LATE / 2)
}

/// Change of a ring that a beacon announces, relative to what is known.
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
