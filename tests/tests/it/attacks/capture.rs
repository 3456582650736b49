//! The log of all that the cases run, and the secrets that must not be in it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tracing::Dispatch;
use tracing_subscriber::EnvFilter;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// A runtime all of whose threads log to memory, down to TRACE.
///
/// A subscriber for the whole process would log for the other tests as well. async-nats stays at INFO,
/// where `log_to_stderr` keeps it: below, it logs whole records that it reads from JetStream.
pub(super) fn runtime() -> Runtime {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("trace,async_nats=info"))
        .with_ansi(false)
        .with_writer(|| Captured)
        .finish();
    let dispatch = Dispatch::new(subscriber);
    // While there is but one subscriber, tracing asks the thread that first comes to a place whether anybody
    // listens there: one of another test's would say no for all.
    static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
    ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::fmt().with_writer(io::sink).finish()));
    // For as long as the thread lives: the guard's drop would end it.
    let log_here = move || std::mem::forget(tracing::dispatcher::set_default(&dispatch));
    log_here();
    Builder::new_multi_thread().worker_threads(2).enable_all().on_thread_start(log_here).build().unwrap()
}

struct Captured;

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All that was logged so far.
pub(super) fn log() -> String {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// How often `text` was logged so far.
pub(super) fn times(text: &str) -> usize {
    String::from_utf8_lossy(&LOG.lock().unwrap_or_else(PoisonError::into_inner)).matches(text).count()
}

/// Notes that `secret` must never be logged, and gives it back.
///
/// What is shorter than twelve characters could be in a log by chance.
pub(super) fn secret<T: AsRef<str>>(secret: T) -> T {
    if secret.as_ref().len() >= 12 {
        SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.as_ref().to_owned());
    }
    secret
}

/// What was noted so far.
pub(super) fn secrets() -> BTreeSet<String> {
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
