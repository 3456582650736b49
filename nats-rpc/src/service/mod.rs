//! The service: handlers, their dependencies, and their execution on nats-server.

mod account;
mod arena;
mod blocking;
mod checks;
#[cfg(feature = "cli")]
mod cli;
mod contained;
mod context;
mod credit;
mod discovery;
mod dispatch;
pub(crate) mod exchange;
mod limits;
#[cfg(feature = "cli")]
mod log;
mod outbox;
mod permissions;
mod permits;
mod ready;
mod running;
mod setup;
mod shard;
mod shutdown;
mod start_error;
pub(crate) mod stats;
pub(crate) mod stream;
mod unfinished;
mod waker;
mod worker;

use std::fmt;
use std::future::Future;

pub use self::account::Account;
pub use self::blocking::spawn_blocking;
#[cfg(feature = "cli")]
use self::cli::CustomCommand;
pub use self::context::ServiceContext;
pub use self::limits::Limits;
#[cfg(feature = "cli")]
pub use self::log::log_to_stderr;
pub use self::permissions::{KvAccess, Permissions};
pub use self::ready::NotReady;
pub use self::running::{ServiceHandle, Status};
pub use self::setup::IntoGuard;
use self::setup::{BoxError, Provided, Setup};
pub use self::start_error::StartError;
pub use self::stats::RouteStats;
use crate::connection::NatsConfig;
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::route::{BoundRoute, GlobalGuards, Route, RouteTable};
use crate::subject::{Subject, SubjectError};
use crate::wire::WireFormat;

/// A named set of handlers with all their dependencies.
///
/// ```no_run
/// use nats_rpc::prelude::*;
/// use std::process::ExitCode;
///
/// #[message_pattern("greet.{name}")]
/// async fn greet(Param(name): Param<String>) -> String {
///     format!("Hello, {name}!")
/// }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     Service::new("greeter", env!("CARGO_PKG_VERSION")).handlers(discover!()).main().await
/// }
/// ```
///
/// All instances of a service share its messages: the queue group is the service's name. Start as many instances as
/// the load requires.
#[must_use = "a service does nothing until `main`, `serve_with_shutdown` or `start`"]
pub struct Service {
    info: Info,
    routes: Vec<&'static Route>,
    checks: Vec<Check>,
    setup: Vec<Setup>,
    #[cfg(feature = "cli")]
    provision: Vec<Setup>,
    #[cfg(feature = "cli")]
    commands: Vec<CustomCommand>,
    publishes: Vec<String>,
    buckets: Vec<KvAccess>,
    account: Option<Account>,
    streams: bool,
    republished: Vec<String>,
    reply_prefixes: Vec<String>,
    prefix: Result<Option<Subject>, SubjectError>,
    wire: WireFormat,
    limits: Limits,
    shards: usize,
}

/// A check that needs no connection.
type Check = Box<dyn FnOnce() -> Result<(), BoxError> + Send>;

/// The service's description of itself.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) description: String,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Service {
    /// Creates a service called `name`, with `version` (SemVer), without handlers.
    ///
    /// The name is the queue group of its instances and part of `$SRV` subjects. It may contain letters, digits, `-`
    /// and `_`; startup rejects any other name.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        let info =
            Info { name: name.into(), version: version.into(), description: String::new(), metadata: Vec::new() };
        Self {
            info,
            routes: Vec::new(),
            checks: Vec::new(),
            setup: Vec::new(),
            #[cfg(feature = "cli")]
            provision: Vec::new(),
            #[cfg(feature = "cli")]
            commands: Vec::new(),
            publishes: Vec::new(),
            buckets: Vec::new(),
            account: None,
            streams: false,
            republished: Vec::new(),
            reply_prefixes: Vec::new(),
            prefix: Ok(None),
            wire: WireFormat::default(),
            limits: Limits::default(),
            shards: 1,
        }
    }

    /// Sets a one-sentence description for humans.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.info.description = text.into();
        self
    }

    /// Adds a metadata entry for tools, such as the region.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.info.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds handlers: [`discover!`](crate::discover) or [`handlers!`](crate::handlers).
    pub fn handlers(mut self, routes: Vec<&'static Route>) -> Self {
        self.routes.extend(routes);
        self
    }

    /// Runs `check` at startup, before the connection is opened: for settings and secrets, for example.
    ///
    /// Errors in them are then reported at once, instead of after a wait for nats-server. All checks run, and each
    /// failed check is a line of [`StartError::Invalid`]. The commands that need no server run no checks.
    ///
    /// ```
    /// use nats_rpc::prelude::*;
    ///
    /// let service = Service::new("users", "1.0.0").check(|| std::env::var("DATABASE"));
    /// ```
    pub fn check<T, E: Into<BoxError>>(mut self, check: impl FnOnce() -> Result<T, E> + Send + 'static) -> Self {
        self.checks.push(Box::new(move || check().map(drop).map_err(Into::into)));
        self
    }

    /// Provides `value` to [`State`](crate::State) arguments of its type.
    pub fn provide<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.setup.push(Setup::ready(move |provided| provided.providers.insert(value)));
        self
    }

    /// Provides the value that `make` creates once the connection is open.
    ///
    /// If `make` returns an error, startup fails.
    pub fn provide_with<T, F, Fut, E>(mut self, make: F) -> Self
    where
        T: Clone + Send + Sync + 'static,
        F: FnOnce(ServiceContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.setup.push(Setup::connected(std::any::type_name::<T>(), make, |value, provided| {
            provided.providers.insert(value);
        }));
        self
    }

    /// Provides the instance of a guard that `#[use_guards(G)]` names by its type.
    ///
    /// `guard` is the guard itself, or an async function of [`ServiceContext`] that creates it.
    pub fn guard<M>(mut self, guard: impl IntoGuard<M>) -> Self {
        self.setup.push(guard.into_setup(|guard, provided| provided.providers.insert(guard)));
        self
    }

    /// Protects every message handler that is not `#[public]` with `guard`, which runs before the handler's own
    /// guards.
    ///
    /// `guard` is the guard itself, or an async function of [`ServiceContext`] that creates it.
    pub fn global_guard<M>(mut self, guard: impl IntoGuard<M>) -> Self {
        let mut setup = guard.into_setup(|guard, provided| provided.global.push(guard));
        setup.guards_all = true;
        self.setup.push(setup);
        self
    }

    /// Runs `work` for the command `provision`: it creates streams and buckets.
    ///
    /// Only that command creates resources; startup checks them and reports missing ones.
    #[cfg(feature = "cli")]
    pub fn provision<F, Fut, E>(mut self, work: F) -> Self
    where
        F: FnOnce(ServiceContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.provision.push(Setup::connected("provision", work, |(), _| {}));
        self
    }

    /// Adds a service-specific command to [`main`](Self::main); `work` receives the arguments after its name.
    #[cfg(feature = "cli")]
    pub fn command<F, Fut, E>(mut self, name: &'static str, about: &'static str, work: F) -> Self
    where
        F: FnOnce(ServiceContext, Vec<String>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.commands.push(CustomCommand::new(name, about, work));
        self
    }

    /// Lets the event handlers of `pattern`, written exactly as in their attribute, accept messages that a JetStream
    /// stream republishes.
    ///
    /// Otherwise, handlers reject all messages that nats-server forwards from a stream: republished messages and
    /// replies to direct gets. Such a message arrives at a subject to which its sender may be forbidden to publish.
    /// The service drops it and counts it as [`unexpected`](RouteStats::unexpected). Request handlers never accept
    /// such a message.
    ///
    /// With this setting, every user who may write to the stream is trusted as a sender of such events.
    ///
    /// ```
    /// use nats_rpc::prelude::*;
    ///
    /// #[event_pattern("prices.{symbol}")]
    /// async fn price_changed(Param(symbol): Param<String>) {
    ///     println!("{symbol}");
    /// }
    ///
    /// // The stream has `republish: { src: "ticks.>", dest: "prices.>" }`.
    /// let service = Service::new("tickers", "1.0.0").handlers(handlers![price_changed]).accept_republished("prices.{symbol}");
    /// ```
    pub fn accept_republished(mut self, pattern: impl Into<String>) -> Self {
        self.republished.push(pattern.into());
        self
    }

    /// Allows replies to callers whose inboxes are below `prefix`, such as `shop.replies`.
    ///
    /// A caller chooses the reply subject of its request, and the service publishes there with its own permissions.
    /// Therefore the service replies only to [inboxes](crate::ReplySubjects): `_INBOX.…`, `_INBOX_<word>.…`, `_R_.…`,
    /// and those below a prefix that is added here or with `NATS_REPLY_PREFIXES`. It rejects a request with any other
    /// reply subject: it does not run the handler, sends nothing, and counts the request in
    /// [`rejected_reply_subjects`](RouteStats::rejected_reply_subjects). An event handler still runs.
    ///
    /// A prefix is a literal subject that does not begin with `$`. If a handler, or a subject that the service
    /// [publishes](Self::publishes) to, is below it, the service does not start.
    ///
    /// ```
    /// use nats_rpc::prelude::*;
    ///
    /// // The callers' NestJS client has `inboxPrefix: 'shop.replies'`.
    /// let service = Service::new("orders", "1.0.0").reply_prefix("shop.replies");
    /// ```
    pub fn reply_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.reply_prefixes.push(prefix.into());
        self
    }

    /// Prefixes all subjects with `prefix`: with `staging`, the handler of `get_user` subscribes to
    /// `staging.get_user`.
    ///
    /// Startup fails if `prefix` is not a subject or begins with a token that NATS reserves: `$…`, `_INBOX…` or `_R_`.
    pub fn subject_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = Subject::prefix(prefix).map(Some);
        self
    }

    /// Sets the dialects that the service accepts. Default: [`WireFormat::Auto`].
    pub fn wire(mut self, wire: WireFormat) -> Self {
        self.wire = wire;
        self
    }

    /// Sets the limits on concurrency and duration. See [`Limits`] for the defaults.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Runs the service on `shards` threads, each with its own connection in the same queue groups.
    ///
    /// Default: 1, which runs in the caller's runtime. More shards pay off once one core is fully used; each message
    /// then costs a little more, as threads and connections share the work. Each message of a handler without a queue
    /// group is still handled once: only one shard subscribes to it. The shards divide `concurrency` and
    /// [`Limits::backlog`] among them.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.max(1);
        self
    }

    /// Connects, binds the handlers, and subscribes; returns once every subscription is active.
    ///
    /// # Errors
    /// - [`StartError::Invalid`]: handlers conflict or lack dependencies, or a [check](Self::check) failed; it lists
    ///   all problems.
    /// - [`StartError::Connect`]: the connection failed.
    /// - [`StartError::Setup`]: a function of `provide_with`, `guard` or `global_guard` failed.
    /// - [`StartError::Forbidden`], [`StartError::Inbox`]: the server forbids one of the subscriptions.
    /// - [`StartError::SubscriptionTimeout`]: the server did not confirm the subscriptions in time.
    pub async fn start(self, nats: NatsConfig) -> Result<ServiceHandle, StartError> {
        // Boxed, as the futures of startup are large and this runs once.
        Box::pin(running::start(self, nats)).await
    }

    /// Starts the service, runs it until `signal` is ready, and shuts it down gracefully without losing a request.
    ///
    /// # Errors
    /// Those of [`start`](Self::start), and those of [`ServiceHandle::wait_for_failure`], after a graceful shutdown of
    /// the remaining parts.
    pub async fn serve_with_shutdown(
        self,
        nats: NatsConfig,
        signal: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let mut running = self.start(nats).await?;
        tokio::select! {
            () = signal => {
                running.stop().await;
                Ok(())
            }
            error = running.wait_for_failure() => {
                running.stop().await;
                Err(error)
            }
        }
    }

    /// Binds the handlers to the dependencies that need no connection; for in-process tests.
    #[cfg(feature = "testing")]
    pub(crate) fn bind_in_process(self) -> Result<(Vec<BoundRoute>, WireFormat, Limits), StartError> {
        let table = self.table()?;
        let mut provided = Provided::default();
        let needs: Vec<_> =
            self.setup.into_iter().filter_map(|setup| setup.run_unconnected(&mut provided).err()).collect();
        if !needs.is_empty() {
            return Err(StartError::Invalid(needs));
        }
        let routes = table.bind(&provided.providers, &provided.global).map_err(StartError::Invalid)?;
        Ok((routes, self.wire, self.limits))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("info", &self.info).field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// The data that the parts of a service's startup share.
pub(crate) struct Assembled {
    pub(crate) info: Info,
    pub(crate) routes: Vec<BoundRoute>,
    pub(crate) wire: WireFormat,
    pub(crate) limits: Limits,
    pub(crate) shards: usize,
    /// The patterns of events that a stream may republish.
    pub(crate) republished: Vec<String>,
    /// The readiness of the guards.
    pub(crate) readiness: Vec<Readiness>,
}

impl Service {
    /// Creates the dependencies and binds the handlers to them.
    async fn assemble(mut self, table: RouteTable, config: &ServiceContext) -> Result<Assembled, StartError> {
        let mut provided = Provided::default();
        for setup in std::mem::take(&mut self.setup) {
            setup.run(config.clone(), &mut provided).await?;
        }
        let routes = table.bind(&provided.providers, &provided.global).map_err(StartError::Invalid)?;
        let own = routes.iter().flat_map(|route| &route.readiness);
        let readiness = provided.global.readiness.iter().chain(own).cloned().collect();
        let Self { info, wire, limits, shards, republished, .. } = self;
        Ok(Assembled { info, routes, wire, limits, shards, republished, readiness })
    }
}
