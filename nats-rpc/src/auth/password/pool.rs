//! A bounded place for work that holds a core for a quarter of a second.

mod threads;

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::threads::Threads;
use crate::error::RpcError;

/// What those are told who find no room: log-ins take about so long.
const RETRY_AFTER_MS: u64 = 1_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Busy {
    retry_after_ms: u64,
}

/// A place in the pool, given back when the work has ended or this is dropped.
#[derive(Debug)]
pub(super) struct Room(OwnedSemaphorePermit);

/// Runs blocking work on threads of its own, so much at once and so much waiting, the rest refused at once.
///
/// Inline, 32 log-ins would keep every other request of the process waiting for seconds.
#[derive(Debug)]
pub(super) struct HashPool {
    /// Room for work that runs or waits.
    room: Arc<Semaphore>,
    /// Room for work that runs.
    workers: Arc<Semaphore>,
    threads: Threads,
}

impl HashPool {
    /// Starts the threads.
    pub(super) fn new(workers: NonZeroUsize, queue: usize) -> std::io::Result<Self> {
        let workers = workers.get().min(Semaphore::MAX_PERMITS);
        let room = workers.saturating_add(queue).min(Semaphore::MAX_PERMITS);
        let threads = Threads::start(workers)?;
        Ok(Self { room: Arc::new(Semaphore::new(room)), workers: Arc::new(Semaphore::new(workers)), threads })
    }

    /// A place among what runs and waits; refused at once if there is none.
    pub(super) fn room(&self) -> Result<Room, RpcError> {
        let busy = || RpcError::resource_exhausted("busy").with_details(Busy { retry_after_ms: RETRY_AFTER_MS });
        Arc::clone(&self.room).try_acquire_owned().map(Room).map_err(|_| busy())
    }

    /// Runs `work` when there is a thread for it; whoever waits no longer has given its place back.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        Room(room): Room,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RpcError> {
        let worker = Arc::clone(&self.workers).acquire_owned().await.map_err(RpcError::internal)?;
        // The permits go with the work: it runs to its end even if the caller is gone by then.
        self.threads.run((room, worker), work).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;
    use crate::error::Code;

    fn pool(workers: usize, queue: usize) -> Arc<HashPool> {
        Arc::new(HashPool::new(NonZeroUsize::new(workers).unwrap(), queue).unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn password_10_what_does_not_fit_the_queue_is_refused_at_once() {
        let pool = pool(1, 2);
        let (release, released) = mpsc::channel::<()>();
        let (started, mut start) = tokio::sync::mpsc::channel(1);
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move {
                pool.run(pool.room().unwrap(), move || {
                    started.blocking_send(()).unwrap();
                    released.recv().unwrap();
                })
                .await
            }
        });
        start.recv().await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(pool.run(pool.room().unwrap(), || ()))).collect();
        for queued in &mut waiting {
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }
        let refused = pool.room().unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, "busy"));

        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        for queued in waiting {
            queued.await.unwrap();
        }
        pool.run(pool.room().unwrap(), || ()).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_waits_no_longer_leaves_the_place_to_others() {
        let pool = pool(1, 1);
        let (release, released) = mpsc::channel::<()>();
        let runs = pool.run(pool.room().unwrap(), move || released.recv());
        let mut runs = Box::pin(runs);
        assert!(futures::poll!(runs.as_mut()).is_pending());
        let mut waits = Box::pin(pool.run(pool.room().unwrap(), || panic!("nobody waits for this any more")));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        assert!(pool.room().is_err());
        // As a handler is, whose caller has gone or whose time is up.
        drop(waits);
        let room = pool.room().unwrap();
        release.send(()).unwrap();
        runs.await.unwrap().unwrap();
        pool.run(room, || ()).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_run_at_once_than_there_are_workers() {
        let pool = pool(2, 100);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let work = (0..50).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            pool.run(pool.room().unwrap(), move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
            })
        });
        for done in futures::future::join_all(work).await {
            done.unwrap();
        }
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_room_back() {
        let pool = pool(1, 0);
        for _ in 0..3 {
            assert_eq!(pool.run(pool.room().unwrap(), || panic!("boom")).await.unwrap_err().code(), Code::Internal);
        }
        pool.run(pool.room().unwrap(), || ()).await.unwrap();
    }
}
