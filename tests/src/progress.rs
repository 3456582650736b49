use std::{
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// Runs `work`, and prints `what` to stderr once it takes more than a second.
///
/// The line bypasses the capturing of test output, which would show it only at the end.
pub(crate) fn telling<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel::<()>();
        scope.spawn(move || {
            let mut pause = Duration::from_secs(1);
            while is_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let seconds = start.elapsed().as_secs();
                let _ = writeln!(io::stderr(), "{what} … {seconds} s");
                pause = Duration::from_secs(5);
            }
        });
        let result = work();
        drop(done);
        result
    })
}
