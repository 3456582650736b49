//! Maintains one connection: detects breaks, and replaces an async-nats client that has ended.
//!
//! The task of such a client can end for good, for example by a panic on a bare carriage return in a header. The
//! client's state still reports a connection then. The only sign is that its subscriptions end unexpectedly.

mod sight;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::sight::{Seen, Sight};
use super::connect::{Opened, connect, connect_filtered};
use super::watch::Watch;
use super::{HeaderFilter, Live, NatsConfig, Shared};

/// The shortest time between two renewals: a peer that ends each client at once must not keep a core busy.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between renewals. The pause doubles up to it while renewals fail, for example after the
/// credentials were revoked.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The time limit for a client to end after it starts to drain.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// The interval at which the state is polled without an event, as events can be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest delay of async-nats between counting a connection and reporting it as connected.
const SETTLING: Duration = Duration::from_millis(10);

/// The task that maintains a connection; it ends with the connection.
pub(super) struct Keeper(AbortHandle);

impl Keeper {
    pub(super) fn spawn(shared: Weak<Shared>, opened: Opened, config: NatsConfig, watch: Arc<Watch>) -> Self {
        Self(tokio::spawn(keep(shared, opened, config, watch)).abort_handle())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep(shared: Weak<Shared>, mut opened: Opened, config: NatsConfig, watch: Arc<Watch>) {
    let mut renewed_at = None;
    loop {
        // A client behind a filter gains nothing from a replacement.
        let replaceable = opened.relay.is_none() && config.header_filter != HeaderFilter::Never;
        match until_it_ends(&opened.nats, &watch, replaceable).await {
            End::Died => watch.died("the connection to nats-server died; making a new one"),
            End::Flapping => {
                watch.died("the connection to nats-server keeps breaking; making one behind a filter");
                retire(&opened.nats).await;
            }
        }
        if let Some(renewed_at) = renewed_at {
            tokio::time::sleep_until(renewed_at + PAUSE).await;
        }
        opened = renew(&config, &watch).await;
        renewed_at = Some(Instant::now());
        let Some(shared) = shared.upgrade() else { return };
        let generation = shared.live.load().generation + 1;
        shared.live.store(Arc::new(Live { nats: opened.nats.clone(), generation }));
        drop(shared);
        watch.renewed(generation);
    }
}

/// Connects again, behind a filter if possible, as a message that the filter replaces may have ended the last client.
async fn renew(config: &NatsConfig, watch: &Arc<Watch>) -> Opened {
    let mut pause = PAUSE;
    loop {
        if config.header_filter != HeaderFilter::Never {
            match connect_filtered(config, watch).await {
                Ok(opened) => return opened,
                // A connection without a filter is better than none.
                Err(error) => tracing::warn!(%error, "no connection behind a filter"),
            }
        }
        match connect(config, watch).await {
            Ok(nats) => return Opened { nats, relay: None },
            Err(error) => tracing::error!(%error, "no new connection yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

enum End {
    /// The client's subscriptions ended unexpectedly.
    Died,
    /// The connection breaks again after each reconnect.
    Flapping,
}

/// Watches a client until it has to be replaced.
async fn until_it_ends(nats: &async_nats::Client, watch: &Watch, replaceable: bool) -> End {
    // A subject without publishers: the subscription only shows when the client ends.
    let Ok(mut sentinel) = nats.subscribe(nats.new_inbox()).await else { return End::Died };
    let mut sight = Sight::default();
    loop {
        tokio::select! {
            message = sentinel.next() => match message {
                Some(_) => continue,
                None => return End::Died,
            },
            () = watch.event() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match sight.look(nats) {
            Seen::Connected | Seen::Nothing => watch.looked(),
            Seen::Disconnected => watch.broken(),
            Seen::Reconnected { unseen_break } => {
                if unseen_break {
                    watch.broken();
                }
                watch.connected();
                if replaceable && sight.is_flapping(std::time::Instant::now()) {
                    return End::Flapping;
                }
                tokio::time::sleep(SETTLING).await;
            }
        }
    }
}

/// Ends a client, so that its subscribers switch to the next one.
async fn retire(nats: &async_nats::Client) {
    let drained = async {
        if let Ok(mut last) = nats.subscribe(nats.new_inbox()).await
            && nats.drain().await.is_ok()
        {
            while last.next().await.is_some() {}
        }
    };
    // A client that exceeds the limit ends later by itself.
    let _ = tokio::time::timeout(DRAIN_LIMIT, drained).await;
}
