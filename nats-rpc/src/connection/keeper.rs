//! Replaces a client of async-nats that has died.
//!
//! The task of such a client can end for good (a panic on a bare carriage return in a header is one way)
//! while its state still says that it is connected. What shows it is that its subscriptions end unasked.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::task::AbortHandle;

use super::watch::Watch;
use super::{Live, NatsConfig, Shared, connect};

/// The pause between two renewals; a peer that kills each client at once must not keep a core busy.
const PAUSE: Duration = Duration::from_millis(50);
/// What it doubles to where no renewal can be had, such as with credentials that were taken back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The task that renews; it ends with the connection.
pub(super) struct Keeper(AbortHandle);

impl Keeper {
    pub(super) fn spawn(shared: Weak<Shared>, nats: async_nats::Client, config: NatsConfig, watch: Arc<Watch>) -> Self {
        Self(tokio::spawn(keep(shared, nats, config, watch)).abort_handle())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(shared: Weak<Shared>, mut nats: async_nats::Client, config: NatsConfig, watch: Arc<Watch>) {
    loop {
        until_it_dies(nats).await;
        tracing::error!("the connection to nats-server died; making a new one");
        watch.died();
        let mut pause = PAUSE;
        nats = loop {
            match connect(&config, &watch).await {
                Ok(nats) => break nats,
                Err(error) => tracing::error!(%error, "no new connection yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let Some(shared) = shared.upgrade() else { return };
        let generation = shared.live.load().generation + 1;
        shared.live.store(Arc::new(Live { nats: nats.clone(), generation }));
        drop(shared);
        watch.renewed(generation);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the client's subscriptions to end.
async fn until_it_dies(nats: async_nats::Client) {
    // A subject that nobody publishes to: the subscription only tells when it ends.
    let Ok(mut sentinel) = nats.subscribe(nats.new_inbox()).await else { return };
    drop(nats);
    while sentinel.next().await.is_some() {}
}
