//! A bounded thread pool for work that occupies a core for a quarter of a second.

mod queue;
mod threads;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nats_rpc::RpcError;
use serde::Serialize;
use tokio::sync::oneshot;

pub use self::queue::HashPriority;
use self::queue::{FairQueue, Lane, LaneNames, Queued};
use self::threads::Threads;

/// The bounds of the `retryAfterMs` of a busy pool.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(5);
/// The weight of a new duration in the moving average: an eighth.
const SMOOTHING: u32 = 8;

/// A request for a password hash: its priority, its source, and its deadline.
///
/// Callers of one source alternate with those of other sources, and the sources of one network with those of other
/// networks.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use nats_rpc_auth::{HashPriority, HashRequest};
///
/// let request = HashRequest::new(HashPriority::Quiet)
///     .source("203.0.113.0/24", "203.0.113.7")
///     .deadline(Instant::now() + Duration::from_secs(5));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct HashRequest {
    priority: HashPriority,
    network: String,
    source: String,
    deadline: Option<Instant>,
}

impl HashRequest {
    /// Creates a request of an unnamed source, without a deadline.
    pub fn new(priority: HashPriority) -> Self {
        Self { priority, network: String::new(), source: String::new(), deadline: None }
    }

    /// Sets the source of the caller, and the network of the source.
    pub fn source(mut self, network: impl Into<String>, source: impl Into<String>) -> Self {
        (self.network, self.source) = (network.into(), source.into());
        self
    }

    /// Sets the deadline: the request waits only as long as the password can still be hashed before `deadline`.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Busy {
    retry_after_ms: u64,
}

/// Runs blocking work on its own threads, in a fair order.
///
/// Inline, 32 logins would delay every other request of the process for seconds.
#[derive(Debug)]
pub(super) struct HashPool {
    shared: Arc<Shared>,
    threads: Threads,
}

#[derive(Debug)]
struct Shared {
    workers: usize,
    names: LaneNames,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    running: usize,
    queue: FairQueue<oneshot::Sender<Turn>>,
    /// The expected duration of a work item.
    expected: Duration,
}

/// A thread reserved for this caller; released when the work has ended or this is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Shared>);

/// A place in the queue; released when its caller no longer waits.
struct Place<'a> {
    shared: &'a Shared,
    id: u64,
}

impl HashPool {
    /// Starts the threads; the expected duration is `expected` until the first work items are done.
    pub(super) fn new(workers: NonZeroUsize, queue: usize, expected: Duration) -> std::io::Result<Self> {
        let workers = workers.get();
        let threads = Threads::start(workers)?;
        let state = Mutex::new(State { running: 0, queue: FairQueue::new(queue), expected });
        Ok(Self { shared: Arc::new(Shared { workers, names: LaneNames::default(), state }), threads })
    }

    /// Checks that `request` would get a turn if it were queued now, as far as known.
    ///
    /// # Errors
    /// 503 "busy" if not; the details contain `retryAfterMs`.
    pub(super) fn check(&self, request: &HashRequest) -> Result<(), RpcError> {
        let state = self.shared.lock();
        if state.running < self.shared.workers && state.queue.is_empty() {
            return Ok(());
        }
        self.shared.in_time(&state, self.shared.lane(request), request.deadline).map(drop)
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// 503 "busy" at once if the queue is full or would take too long; later if no turn came in time, or if another
    /// caller displaced it. The details contain `retryAfterMs`.
    pub(super) async fn turn(&self, request: &HashRequest) -> Result<Turn, RpcError> {
        let shared = &self.shared;
        let (tell, told) = oneshot::channel();
        let (place, latest) = {
            let mut state = shared.lock();
            if state.running < shared.workers && state.queue.is_empty() {
                state.running += 1;
                return Ok(Turn(Arc::clone(shared)));
            }
            let lane = shared.lane(request);
            let latest = shared.in_time(&state, lane, request.deadline)?;
            let retry = state.expected;
            let Queued { id, displaced } = state.queue.push(lane, tell).map_err(|_| busy(retry))?;
            // Dropping its sender ends the wait of the displaced caller.
            drop(displaced);
            (Place { shared, id }, latest)
        };
        let turn = match latest {
            Some(latest) => tokio::time::timeout_at(latest.into(), told).await.ok().and_then(Result::ok),
            None => told.await.ok(),
        };
        let retry = shared.lock().expected;
        drop(place);
        turn.ok_or_else(|| busy(retry))
    }

    /// Runs `work` in a turn, and then returns the turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Turn), RpcError> {
        // The turn is moved into the work, which completes even if its caller is cancelled.
        let timed = move || {
            let started = Instant::now();
            let done = work();
            turn.0.learn(started.elapsed());
            (done, turn)
        };
        self.threads.run(timed).await
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each update is complete before a panic is possible, so poison is harmless.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, HashRequest { priority, network, source, .. }: &HashRequest) -> Lane {
        self.names.lane(*priority, network, source)
    }

    /// Returns the latest time for the turn of a new request; busy if its turn would come later.
    fn in_time(&self, state: &State, lane: Lane, deadline: Option<Instant>) -> Result<Option<Instant>, RpcError> {
        if !state.queue.has_place(lane) {
            return Err(busy(state.expected));
        }
        let Some(deadline) = deadline else { return Ok(None) };
        // Running work items end after half of their duration, on average; the new one needs its full duration.
        let rounds = u32::try_from(state.queue.ahead(lane) / self.workers).unwrap_or(u32::MAX);
        let wait = state.expected.saturating_mul(rounds).saturating_add(state.expected / 2);
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(state.expected);
        match wait <= left {
            true => Ok(deadline.checked_sub(state.expected)),
            false => Err(busy(wait.saturating_sub(left))),
        }
    }

    fn learn(&self, took: Duration) {
        let mut state = self.lock();
        state.expected = (state.expected * (SMOOTHING - 1)).saturating_add(took) / SMOOTHING;
    }

    /// Gives the ended turn to the next caller in the queue.
    fn pass_on(self: &Arc<Self>) {
        let next = {
            let mut state = self.lock();
            let next = state.queue.pop();
            if next.is_none() {
                state.running -= 1;
            }
            next
        };
        if let Some(next) = next {
            // A turn that is not accepted is dropped, and so passed on.
            drop(next.send(Turn(Arc::clone(self))));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.remove(self.id);
    }
}

fn busy(retry_after: Duration) -> RpcError {
    let retry_after = retry_after.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end());
    let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
    RpcError::unavailable("busy").with_details(Busy { retry_after_ms })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use nats_rpc::Code;

    use super::*;

    fn pool(workers: usize, queue: usize) -> Arc<HashPool> {
        let expected = Duration::from_millis(100);
        Arc::new(HashPool::new(NonZeroUsize::new(workers).unwrap(), queue, expected).unwrap())
    }

    fn request() -> HashRequest {
        HashRequest::new(HashPriority::Quiet)
    }

    async fn run<T: Send + 'static>(pool: &HashPool, work: impl FnOnce() -> T + Send + 'static) -> Result<T, RpcError> {
        let turn = pool.turn(&request()).await?;
        Ok(pool.run(turn, work).await?.0)
    }

    #[tokio::test]
    async fn password_10_beyond_the_queue_work_is_busy_at_once() {
        let pool = pool(1, 2);
        let held = pool.turn(&request()).await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(run(&pool, || ()))).collect();
        for queued in &mut waiting {
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }
        for refused in [pool.check(&request()).unwrap_err(), pool.turn(&request()).await.unwrap_err()] {
            assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "busy"));
            assert_eq!(refused.details().unwrap().get(), r#"{"retryAfterMs":500}"#);
        }
        drop(pool.run(held, || ()).await.unwrap());
        for queued in waiting {
            queued.await.unwrap();
        }
        run(&pool, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn a_wait_beyond_the_deadline_is_busy_at_once() {
        let pool = pool(1, 100);
        let held = pool.turn(&request()).await.unwrap();
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(run(&pool, || ()))).collect();
        for queued in &mut waiting {
            assert!(futures::poll!(queued.as_mut()).is_pending());
        }
        let soon = request().deadline(Instant::now() + Duration::from_secs(2));
        for refused in [pool.check(&soon).unwrap_err(), pool.turn(&soon).await.unwrap_err()] {
            assert_eq!(refused.code(), Code::Unavailable);
        }
        // The same queue length delays its own source only.
        pool.check(&soon.clone().source("203.0.113.0/24", "203.0.113.7")).unwrap();
        pool.check(&request().deadline(Instant::now() + Duration::from_secs(60))).unwrap();
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_in_time_is_busy() {
        let pool = pool(1, 8);
        let held = pool.turn(&request()).await.unwrap();
        let begun = Instant::now();
        let late = pool.turn(&request().deadline(begun + Duration::from_secs(5))).await.unwrap_err();
        assert_eq!(late.code(), Code::Unavailable);
        // A cancelled caller occupies no place.
        assert!(pool.shared.lock().queue.is_empty());
        drop(held);
        assert_eq!(pool.shared.lock().running, 0);
    }

    #[tokio::test]
    async fn a_displaced_caller_is_busy_and_the_other_is_served() {
        let pool = pool(1, 1);
        let held = pool.turn(&request()).await.unwrap();
        let (unproven, quiet) = (HashRequest::new(HashPriority::Unproven), request());
        let mut first = Box::pin(pool.turn(&unproven));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(pool.turn(&quiet));
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert_eq!(first.await.unwrap_err().code(), Code::Unavailable);
        drop(held);
        drop(second.await.unwrap());
        assert_eq!(pool.shared.lock().running, 0);
    }

    #[tokio::test]
    async fn an_abandoned_place_goes_to_others() {
        let pool = pool(1, 1);
        let held = pool.turn(&request()).await.unwrap();
        let mut waits = Box::pin(run(&pool, || panic!("nobody waits for this any more")));
        assert!(futures::poll!(waits.as_mut()).is_pending());
        assert!(pool.check(&request()).is_err());
        // A handler is dropped in this way if its caller disconnects or its timeout expires.
        drop(waits);
        let next = request();
        let mut next = Box::pin(pool.turn(&next));
        assert!(futures::poll!(next.as_mut()).is_pending());
        drop(held);
        // A turn that was given but not accepted is passed on as well.
        drop(next);
        run(&pool, || ()).await.unwrap();
        assert_eq!(pool.shared.lock().running, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_run_at_once_than_there_are_workers() {
        let pool = pool(2, 100);
        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let work = (0..50).map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            run(&pool, move || {
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
    async fn work_goes_on_without_its_caller_and_keeps_its_turn() {
        let pool = pool(1, 1);
        let (release, released) = mpsc::channel::<()>();
        let mut runs = Box::pin(run(&pool, move || released.recv()));
        assert!(futures::poll!(runs.as_mut()).is_pending());
        drop(runs);
        let mut next = Box::pin(run(&pool, || ()));
        assert!(futures::poll!(next.as_mut()).is_pending());
        release.send(()).unwrap();
        next.await.unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_turn_back() {
        let pool = pool(1, 0);
        for _ in 0..3 {
            assert_eq!(run(&pool, || panic!("boom")).await.unwrap_err().code(), Code::Internal);
        }
        run(&pool, || ()).await.unwrap();
    }
}
