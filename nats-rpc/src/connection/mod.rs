//! A connection to NATS: opening, renewal, state, and a round trip that proves that it works.

mod config;
mod connect;
mod filter;
mod forbidden;
mod keeper;
mod kv;
mod overflow;
mod record;
mod relay;
mod round_trip;
mod slot;
mod unreadable;
mod watch;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arc_swap::ArcSwap;
use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::message::OutboundMessage;
use futures::Sink;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub use self::config::{HeaderFilter, KvApiPrefixes, NatsConfig, NatsConfigError};
pub use self::connect::ConnectError;
use self::connect::{Opened, connect, connect_filtered};
use self::keeper::Keeper;
pub use self::kv::{KvBucket, KvError, KvHandles, is_kv_conflict};
pub use self::record::{KvReadError, KvRecord};
pub use self::round_trip::RoundTripError;
pub use self::slot::Slot;
pub use self::watch::ConnectionState;
pub(crate) use self::watch::Violation;
use self::watch::Watch;
use crate::inbox_token::unrelated_id;
use crate::reply_subject::ReplySubjects;

/// A connection to NATS, shared by a service and its clients. Cheap to clone.
///
/// async-nats reconnects by itself, with a capped backoff. An async-nats client that has ended is replaced by a new
/// one; a bare carriage return in a header is enough to end a client. The new client is behind a
/// [filter](HeaderFilter) that replaces such messages. The state is the one that async-nats reports; only a
/// [round trip](Self::round_trip) proves that messages flow.
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    config: NatsConfig,
    /// The prefix of its inboxes.
    inbox_prefix: String,
    replies: Arc<ReplySubjects>,
    live: ArcSwap<Live>,
    watch: Arc<Watch>,
    /// The runtime of the connection's tasks.
    runtime: Handle,
    /// A value shared by the users of the connection, created by the first of them.
    slot: Slot,
    _keeper: Keeper,
}

/// The current async-nats client and its generation number.
pub(crate) struct Live {
    pub(crate) nats: async_nats::Client,
    pub(crate) generation: u64,
}

impl Connection {
    /// Connects, and waits for nats-server up to the configured timeout.
    ///
    /// # Errors
    /// - [`ConnectError::Config`]: a URL or a credential cannot be used.
    /// - [`ConnectError::Refused`]: the server rejects the credentials; not retried.
    /// - [`ConnectError::Tls`]: client and server do not agree on TLS, or on a certificate; not retried.
    /// - [`ConnectError::Unreachable`]: no server was reachable within the configured time.
    /// - [`ConnectError::Filter`]: the [header filter](HeaderFilter::Always) cannot be set up.
    pub async fn open(config: &NatsConfig) -> Result<Self, ConnectError> {
        let connection = Self::open_one(config).await?;
        let prefix = &connection.0.inbox_prefix;
        if !connection.0.replies.allows(&format!("{prefix}.x")) {
            tracing::warn!(
                prefix,
                "services reject reply subjects with the inbox prefix of this connection: set NATS_REPLY_PREFIXES on \
                 them, or choose a prefix of the form _INBOX_<word>"
            );
        }
        Ok(connection)
    }

    async fn open_one(config: &NatsConfig) -> Result<Self, ConnectError> {
        let (inbox_prefix, replies) = (config.inbox()?, Arc::new(config.reply_subjects()?));
        let watch = Arc::new(Watch::default());
        // Connect directly even if a filter follows: this waits for the server, and its errors are more precise.
        let nats = connect(config, &watch).await?;
        let opened = match config.header_filter {
            HeaderFilter::Always => connect_filtered(config, &watch).await?,
            HeaderFilter::Auto | HeaderFilter::Never => Opened { nats, relay: None },
        };
        let live = ArcSwap::from_pointee(Live { nats: opened.nats.clone(), generation: 0 });
        watch.connected();
        let shared = Arc::new_cyclic(|shared| Shared {
            config: config.clone(),
            inbox_prefix,
            replies,
            live,
            watch: watch.clone(),
            runtime: Handle::current(),
            slot: Slot::default(),
            _keeper: Keeper::spawn(shared.clone(), opened, config.clone(), watch),
        });
        Ok(Self(shared))
    }

    /// Returns the current async-nats client, for features that this crate does not wrap.
    ///
    /// A renewal of the connection replaces it, so get it for each use instead of storing it.
    pub fn nats(&self) -> async_nats::Client {
        self.0.live.load().nats.clone()
    }

    /// Returns JetStream on the current client; see [`nats`](Self::nats).
    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.nats())
    }

    /// Returns how often the async-nats client has been replaced.
    ///
    /// Objects created from an older client, such as a KV store, no longer work.
    pub fn generation(&self) -> u64 {
        self.0.live.load().generation
    }

    /// Returns the current state of the connection.
    pub fn state(&self) -> ConnectionState {
        // The keeper's state lags slightly, but it also covers a client that has ended, which async-nats does not
        // report.
        match self.0.live.load().nats.connection_state() {
            State::Connected => self.0.watch.state(),
            State::Pending | State::Disconnected => ConnectionState::Disconnected,
        }
    }

    /// Waits for a state that `wanted` accepts; returns at once if the current one is accepted.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&ConnectionState) -> bool) {
        let mut states = self.0.watch.states();
        // The sender lives as long as `self`.
        while !wanted(&self.state()) && states.changed().await.is_ok() {}
    }

    /// Returns how many messages with unreadable headers were replaced since the start ([`HeaderFilter`]).
    pub fn unreadable_messages(&self) -> u64 {
        self.0.watch.replaced()
    }

    /// Returns how many messages were dropped since the start because their subscription was full
    /// ([`NatsConfig::subscription_capacity`]).
    ///
    /// It is a lower bound: async-nats drops notifications that exceed its buffer.
    pub fn slow_consumer_drops(&self) -> u64 {
        self.0.watch.dropped()
    }

    /// Returns `true` if the server sees the client's address as a loopback address.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.live.load().nats.server_info().client_ip;
        host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Returns the reply subjects that this connection publishes to; see [`NatsConfig::reply_prefix`].
    pub fn reply_subjects(&self) -> Arc<ReplySubjects> {
        self.0.replies.clone()
    }

    /// Returns a new inbox of this connection, which no peer can guess.
    pub(crate) fn new_inbox(&self) -> String {
        format!("{}.{}", self.0.inbox_prefix, unrelated_id())
    }

    /// Returns the subject below which replies to this connection arrive.
    pub(crate) fn inbox_prefix(&self) -> String {
        self.0.inbox_prefix.clone()
    }

    pub(crate) fn config(&self) -> &NatsConfig {
        &self.0.config
    }

    /// Returns how many messages a subscription buffers before the newest are dropped.
    pub(crate) fn subscription_capacity(&self) -> usize {
        self.0.config.subscription_capacity
    }

    /// Publishes `message` if that is possible without waiting; returns `true` if it did.
    pub(crate) fn try_publish(&self, message: OutboundMessage) -> bool {
        let mut nats = self.nats();
        let mut cx = Context::from_waker(Waker::noop());
        matches!(Pin::new(&mut nats).poll_ready(&mut cx), Poll::Ready(Ok(())))
            && Pin::new(&mut nats).start_send(message).is_ok()
    }

    /// Spawns `task` on the runtime of the connection's own tasks: it ends with them, independently of a caller's
    /// runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.0.runtime.spawn(task).abort_handle()
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        self.0.live.load_full()
    }

    /// Waits for a client newer than that of `generation`.
    pub(crate) async fn renewed(&self, generation: u64) -> Arc<Live> {
        self.0.watch.renewal(generation).await;
        self.live()
    }

    /// Waits until the client of [`nats`](Self::nats) is newer than that of `generation`, the value of
    /// [`generation`](Self::generation) before a subscription.
    ///
    /// Subscriptions and consumers of a client that has ended stay silent; their owner must create them again after
    /// this wait.
    pub async fn wait_for_renewal(&self, generation: u64) {
        self.0.watch.renewal(generation).await;
    }

    /// Returns a counter of connection breaks; a change means that replies may be lost.
    pub(crate) fn breaks(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.watch.breaks()
    }

    /// Returns the prefix of the JetStream API that has auth's buckets, if those are in another account or are watched
    /// without consumers.
    pub fn auth_js_api_prefix(&self) -> Option<&str> {
        self.0.config.auth_js_api_prefix.as_deref()
    }

    /// Returns the prefix of the JetStream API that has the KV bucket `name`; `None` for the account's own.
    fn kv_api_prefix(&self, name: &str) -> Option<&str> {
        self.0.config.kv_api_prefixes.of(name)
    }

    /// Returns the slot that users of this connection share.
    #[doc(hidden)]
    pub fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Opens another connection with the same settings, for a separate thread.
    pub(crate) async fn another(&self) -> Result<Self, ConnectError> {
        Self::open_one(&self.0.config).await
    }

    /// Returns a receiver of the permission violations from now on.
    pub(crate) fn violations(&self) -> tokio::sync::broadcast::Receiver<Violation> {
        self.0.watch.violations()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
