//! Threads of a lower priority than those that serve requests.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use nats_rpc::RpcError;
use tokio::sync::oneshot;

/// The niceness: on a shared core such a thread gets a third of the time of a serving thread, so that logins make
/// progress.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run jobs one after another; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Threads {
    jobs: Sender<Job>,
}

impl Threads {
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (jobs, given) = channel();
        let given = Arc::new(Mutex::new(given));
        for _ in 0..count {
            let given = Arc::clone(&given);
            thread::Builder::new().name("password".to_owned()).spawn(move || work(&given))?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` on the next free thread.
    ///
    /// # Errors
    /// 500 if it panicked.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RpcError> {
        let (done, result) = oneshot::channel();
        let job = move || {
            // Dropped after the captures of `work`, also on a panic: the receiver finds those released.
            let done = done;
            // The receiver may be dropped.
            let _ = done.send(work());
        };
        self.jobs.send(Box::new(job)).map_err(|_| RpcError::internal("the threads for passwords are gone"))?;
        result.await.map_err(|_| RpcError::internal("hashing a password panicked"))
    }
}

/// Runs jobs until all senders are dropped.
fn work(given: &Mutex<Receiver<Job>>) {
    give_way();
    loop {
        // One thread waits for the next job and the others for the lock; no panic is possible in between.
        let job = given.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // The panic has been reported, and the closed channel notifies the caller.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

/// Lowers the priority of this thread, so that a thread that wakes up to serve a request runs at once.
///
/// Hashing uses the remaining time of the cores, and all of it if nothing else is running. Only Linux has priorities
/// of single threads; elsewhere this would lower the priority of the whole process.
#[cfg(target_os = "linux")]
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "passwords are hashed at the priority of requests");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn hashing_gives_way_and_nothing_else_of_the_process_does() {
        let own = || getpriority_process(None).unwrap();
        let before = own();
        let threads = Threads::start(2).unwrap();
        for _ in 0..4 {
            assert_eq!(threads.run(own).await.unwrap(), NICE.max(before));
        }
        assert_eq!(own(), before);
        assert_eq!(tokio::task::spawn_blocking(own).await.unwrap(), before);
    }
}
