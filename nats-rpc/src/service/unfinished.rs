//! Detached tasks: they continue when the call that began them is cancelled, and shutdown waits for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::Instrument;

/// The detached tasks of one service, limited in number. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Unfinished {
    running: Arc<Mutex<JoinSet<()>>>,
    most: usize,
}

impl Unfinished {
    /// Creates a limit of `most` tasks at a time. A limit is needed because the task of a cancelled call continues but
    /// no longer counts as a request.
    pub(super) fn at_most(most: usize) -> Self {
        Self { running: Arc::default(), most: most.max(1) }
    }

    /// Begins `work`, and sends its result to the returned receiver; returns `None` if too many tasks run already.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<oneshot::Receiver<T>> {
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        while all.try_join_next().is_some() {}
        if all.len() >= self.most {
            return None;
        }
        let (tell, told) = oneshot::channel();
        let left = Left(Some(what));
        let seen_through = async move {
            let mut left = left;
            let done = work.await;
            left.0 = None;
            // The caller that began the task may be gone: that is the purpose of a detached task.
            let _ = tell.send(done);
        };
        all.spawn(seen_through.instrument(tracing::Span::current()));
        Some(told)
    }

    /// Waits for at most `limit` until all tasks have ended; aborts the remaining tasks, and each one is named in the
    /// log.
    pub(super) async fn end(&self, limit: Duration) {
        let mut all = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = async { while all.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, ended).await.is_err() {
            all.shutdown().await;
        }
    }
}

/// Logs a task that was left unfinished, when it is dropped.
struct Left(Option<&'static str>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(what) = self.0 {
            tracing::error!(what, "left half done");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::io::{self, Write};

    use super::*;

    /// Captures the log output while its subscriber is the default.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Log {
        fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + 'static {
            let log = self.clone();
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || log.clone()).finish()
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_left_is_named_in_the_log_and_neither_what_is_done_nor_what_never_began() {
        let log = Log::default();
        let _logging = tracing::subscriber::set_default(log.subscriber());
        let unfinished = Unfinished::at_most(1);
        assert_eq!(unfinished.begin("done", async { 7 }).expect("a place").await, Ok(7));
        let _never = unfinished.begin("left", pending::<()>()).expect("a place");
        assert!(unfinished.begin("refused", async {}).is_none());
        unfinished.end(Duration::ZERO).await;
        let text = log.text();
        assert_eq!(text.matches("left half done").count(), 1, "{text}");
        assert!(text.contains(r#""left""#), "{text}");
    }
}
