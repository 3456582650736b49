//! One connection to NATS: how it is opened and renewed, what becomes of it, and whether it really works.

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

/// A connection to NATS, shared by a service and its clients; cheap to clone.
///
/// Reconnects are async-nats' own, with a capped backoff. A client of async-nats that has died (a bare
/// carriage return in a header is enough) is replaced by a new one, behind a [filter](HeaderFilter) that such a
/// message does not pass. The state is what async-nats says; whether messages really flow is known from an
/// [`round_trip`](Self::round_trip).
#[derive(Clone)]
pub struct Connection(Arc<Shared>);

struct Shared {
    config: NatsConfig,
    /// What its inboxes begin with.
    inbox_prefix: String,
    replies: Arc<ReplySubjects>,
    live: ArcSwap<Live>,
    watch: Arc<Watch>,
    /// Where the connection's tasks live.
    runtime: Handle,
    /// What users of the connection share, made by the first of them.
    slot: Slot,
    _keeper: Keeper,
}

/// A client of async-nats, and the how-manieth it is.
pub(crate) struct Live {
    pub(crate) nats: async_nats::Client,
    pub(crate) generation: u64,
}

impl Connection {
    /// Connects, waiting for nats-server as long as `config` says.
    ///
    /// # Errors
    /// - [`ConnectError::Config`]: a URL or a credential cannot be used.
    /// - [`ConnectError::Refused`]: the server does not accept the credentials; not retried.
    /// - [`ConnectError::Tls`]: the two do not agree on TLS, or on a certificate; not retried.
    /// - [`ConnectError::Unreachable`]: no server answered in the configured time.
    /// - [`ConnectError::Filter`]: the [header filter](HeaderFilter::Always) cannot be had.
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
        // Also before a connection through a filter: it waits for the server, and its errors tell more.
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

    /// The present client of async-nats, for what this crate does not wrap.
    ///
    /// It is another one after the connection was renewed, so ask for it rather than keep it.
    pub fn nats(&self) -> async_nats::Client {
        self.0.live.load().nats.clone()
    }

    /// JetStream on the present client; see [`nats`](Self::nats).
    pub fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.nats())
    }

    /// How often the client of async-nats has been replaced by a new one.
    ///
    /// What was made of an older client, such as a KV store, no longer works.
    pub fn generation(&self) -> u64 {
        self.0.live.load().generation
    }

    /// The state of the connection now.
    pub fn state(&self) -> ConnectionState {
        // The keeper is a moment late, and knows what async-nats does not: that its client has died.
        match self.0.live.load().nats.connection_state() {
            State::Connected => self.0.watch.state(),
            State::Pending | State::Disconnected => ConnectionState::Disconnected,
        }
    }

    /// Waits for the next state that `wanted` accepts; returns at once if the present one is it.
    pub async fn wait_for(&self, mut wanted: impl FnMut(&ConnectionState) -> bool) {
        let mut states = self.0.watch.states();
        // The sender lives as long as `self`.
        while !wanted(&self.state()) && states.changed().await.is_ok() {}
    }

    /// Returns how many messages with unreadable headers were replaced since the start ([`HeaderFilter`]).
    pub fn unreadable_messages(&self) -> u64 {
        self.0.watch.replaced()
    }

    /// How many messages were dropped since the start because their subscription was full
    /// ([`NatsConfig::subscription_capacity`]).
    ///
    /// At least: async-nats tells of no more than it has room to.
    pub fn slow_consumer_drops(&self) -> u64 {
        self.0.watch.dropped()
    }

    /// Whether the server sees this machine as its own.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.live.load().nats.server_info().client_ip;
        host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// The reply subjects that this connection publishes to; see [`NatsConfig::reply_prefix`].
    pub fn reply_subjects(&self) -> Arc<ReplySubjects> {
        self.0.replies.clone()
    }

    /// A new inbox of this connection, which no peer can guess.
    pub(crate) fn new_inbox(&self) -> String {
        format!("{}.{}", self.0.inbox_prefix, unrelated_id())
    }

    /// The subject below which replies to this connection arrive.
    pub(crate) fn inbox_prefix(&self) -> String {
        self.0.inbox_prefix.clone()
    }

    pub(crate) fn config(&self) -> &NatsConfig {
        &self.0.config
    }

    /// How many messages of a subscription wait before its newest are dropped.
    pub(crate) fn subscription_capacity(&self) -> usize {
        self.0.config.subscription_capacity
    }

    /// Publishes `message` if that needs no wait; says whether it did.
    pub(crate) fn try_publish(&self, message: OutboundMessage) -> bool {
        let mut nats = self.nats();
        let mut cx = Context::from_waker(Waker::noop());
        matches!(Pin::new(&mut nats).poll_ready(&mut cx), Poll::Ready(Ok(())))
            && Pin::new(&mut nats).start_send(message).is_ok()
    }

    /// Spawns `task` where the connection's own tasks live: it ends with them, and not with a caller's runtime.
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

    /// Waits until the client of [`nats`](Self::nats) is newer than that of `generation`, which is
    /// [`generation`](Self::generation) as read before a subscription.
    ///
    /// Subscriptions and consumers of a client that has died say nothing any more; whoever has one makes it anew then.
    pub async fn wait_for_renewal(&self, generation: u64) {
        self.0.watch.renewal(generation).await;
    }

    /// A count of the times that the connection broke; a change means that answers may be lost.
    pub(crate) fn breaks(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.watch.breaks()
    }

    /// Where this account reads the buckets of auth, if those are in another account or are watched without
    /// consumers: the prefix of the JetStream API.
    pub fn auth_js_api_prefix(&self) -> Option<&str> {
        self.0.config.auth_js_api_prefix.as_deref()
    }

    /// The prefix of the JetStream API that has the KV bucket `name`; `None`: the account's own.
    fn kv_api_prefix(&self, name: &str) -> Option<&str> {
        self.0.config.kv_api_prefixes.of(name)
    }

    /// What users of this connection share.
    #[doc(hidden)]
    pub fn slot(&self) -> &Slot {
        &self.0.slot
    }

    /// Opens another connection like this one, for a thread of its own.
    pub(crate) async fn another(&self) -> Result<Self, ConnectError> {
        Self::open_one(&self.0.config).await
    }

    /// What the server forbids from now on.
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
