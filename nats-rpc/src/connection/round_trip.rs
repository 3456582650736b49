use std::time::{Duration, Instant};

use futures::StreamExt;

use super::Connection;

/// How long the first echo is waited for before another is sent, as a reconnect may have lost it; the
/// patience doubles, so that a slow network is not taken for a dead one.
const RESEND_AFTER: Duration = Duration::from_millis(250);

impl Connection {
    /// Sends a message to oneself and waits for it: proof that messages flow, with the time it took.
    ///
    /// It is also a barrier: what this connection published before has reached the server, and what the
    /// server sent before has reached this connection.
    ///
    /// # Errors
    /// [`RoundTripError`] if none came back within `limit`.
    pub async fn round_trip(&self, limit: Duration) -> Result<Duration, RoundTripError> {
        let started = Instant::now();
        tokio::time::timeout(limit, self.echo_until_heard())
            .await
            .map(|()| started.elapsed())
            .map_err(|_| RoundTripError { waited: limit })
    }

    async fn echo_until_heard(&self) {
        let mut patience = RESEND_AFTER;
        loop {
            match tokio::time::timeout(patience, self.echo_once()).await {
                Ok(Some(())) => return,
                // A connection that has ended fails at once; it must not be asked in a busy loop.
                Ok(None) => tokio::time::sleep(RESEND_AFTER).await,
                Err(_) => patience *= 2,
            }
        }
    }

    async fn echo_once(&self) -> Option<()> {
        let nats = self.nats();
        let inbox = self.new_inbox();
        let mut subscription = nats.subscribe(inbox.clone()).await.ok()?;
        nats.publish(inbox, bytes::Bytes::new()).await.ok()?;
        subscription.next().await.map(drop)
    }
}

/// A message to oneself that did not come back.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a message to oneself did not come back within {waited:?}")]
#[non_exhaustive]
pub struct RoundTripError {
    /// How long it was waited for.
    pub waited: Duration,
}
