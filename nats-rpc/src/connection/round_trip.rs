use std::time::{Duration, Instant};

use futures::StreamExt;

use super::Connection;

/// The wait for the first echo before another is sent, as a reconnect may have lost it. The wait doubles, so that a
/// slow network is not mistaken for a dead connection.
const RESEND_AFTER: Duration = Duration::from_millis(250);

impl Connection {
    /// Sends a message to the connection itself and waits for it; returns the time it took. This proves that messages
    /// flow.
    ///
    /// It is also a barrier. Messages that this connection published before have reached the server, and messages that
    /// the server sent before have reached this connection.
    ///
    /// # Errors
    /// [`RoundTripError`] if no message came back within `limit`.
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
                // A connection that has ended fails at once; the pause prevents a busy loop.
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

/// The error of a round trip whose message did not come back.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a message to oneself did not come back within {waited:?}")]
#[non_exhaustive]
pub struct RoundTripError {
    /// The time that the call waited.
    pub waited: Duration,
}
