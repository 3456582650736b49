//! Helpers of scenarios: runtimes, clocks, and time limits.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

/// Longer than any successful step takes, so that a hang differs from slowness.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a separate runtime for one side, so that a busy service does not slow its caller's clock.
pub(super) fn runtime(threads: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("a runtime")
}

/// Panics if `what` takes so long that it must be a hang.
///
/// # Panics
/// After [`PATIENCE`].
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far too long: a hang")
}

/// Polls `ready` every 5 ms until it returns `true`; returns the time it took, or `None` after `limit`.
pub(super) async fn until(limit: Duration, mut ready: impl AsyncFnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    let asking = async {
        while !ready().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, asking).await.ok().map(|()| started.elapsed())
}

/// Returns milliseconds since this process began, the same for caller and handler.
pub(super) fn now_ms() -> u64 {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed().as_millis() as u64
}

/// Returns the resident memory of this process, in kB.
///
/// # Panics
/// Where there is no `/proc`.
pub(super) fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells its processes' memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("with the resident part");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("as a number of kB")
}

/// Formats a count with separators: 1,234,567.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Hides panics with the message `what` from the standard error stream; others are printed as before.
pub(super) fn hush_panics_of(what: &'static str) {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.payload_as_str().is_some_and(|said| said.contains(what)) {
            told(panic);
        }
    }));
}
