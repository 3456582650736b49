use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures::future::{join_all, select_all};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::discovery::{self, Profile};
use super::dispatch::Endpoint;
use super::permits::Permits;
use super::shard::Shard;
use super::stats::Counters;
use super::unfinished::Unfinished;
use super::{Assembled, Info, NotReady, RouteStats, Service, ServiceContext, StartError, ready};
use crate::connection::{Connection, NatsConfig, RoundTripError};
use crate::deadline::LONGEST;
use crate::inbox_token::unrelated_id;
use crate::readiness::Readiness;
use crate::route::Kind;

/// The lifecycle state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Every subscription is active, and every guard has the data for its decisions.
    Ready,
    /// Every subscription is active, and a guard lacks data for its decisions, such as keys to verify tokens with.
    /// Guarded handlers reply 503. The service becomes ready again automatically.
    NotReady,
    /// The service takes no more requests and finishes those in flight.
    Stopping,
    /// All work has ended.
    Stopped,
}

/// A running service.
///
/// Dropping it ends everything at once and loses the requests in flight; [`stop`](Self::stop) loses none.
#[must_use = "dropping it ends the service at once"]
pub struct ServiceHandle {
    profile: Arc<Profile>,
    connection: Connection,
    shards: Vec<Shard>,
    discovery: JoinSet<()>,
    readiness: Vec<Readiness>,
    status: watch::Sender<Status>,
    shutdown_timeout: Duration,
    unfinished: Unfinished,
}

pub(super) async fn start(mut service: Service, nats: NatsConfig) -> Result<ServiceHandle, StartError> {
    // The handlers' declarations are checked first: this needs no server.
    let table = service.table()?;
    let nats = service.reply_prefixes.iter().fold(nats, |nats, prefix| nats.reply_prefix(prefix));
    service.check_reply_prefixes(&table, nats.reply_prefixes())?;
    service.run_checks()?;
    let connection = Connection::open(&nats.named(&service.info.name)).await?;
    let context = ServiceContext::new(connection, &service.info.name, &service.limits);
    let assembled = service.assemble(table, &context).await?;
    ServiceHandle::serve(assembled, context).await
}

/// One shard's part of a handler's limits.
struct Share {
    of: usize,
    number: usize,
}

impl Share {
    /// Returns the shard's part of `limit`; the parts of all shards add up to `limit`.
    fn of_limit(&self, limit: usize) -> usize {
        limit / self.of + usize::from(self.number < limit % self.of)
    }
}

impl ServiceHandle {
    async fn serve(assembled: Assembled, context: ServiceContext) -> Result<Self, StartError> {
        let (connection, unfinished) = (context.connection().clone(), context.unfinished().clone());
        let Assembled { info, routes, wire, limits, shards: count, republished, readiness } = assembled;
        let routes: Vec<_> = routes.into_iter().map(Arc::new).collect();
        let instance = unrelated_id();
        let patterns = routes.iter().map(|route| &route.entry.pattern);
        let replies = Arc::new(connection.config().reply_subjects()?.except(patterns));
        let permits = Arc::new(Permits::new(limits.in_flight));
        let mut shards = Vec::new();
        let mut endpoints: Vec<Vec<_>> = routes.iter().map(|_| Vec::new()).collect();
        for number in 0..count {
            let mut shard = match count {
                1 => Shard::here(&connection, &instance),
                _ => Shard::on_thread(&connection, &instance, format!("{}-{number}", info.name)).await?,
            };
            for (index, route) in routes.iter().enumerate() {
                let own = route.entry.route;
                // Each handler starts at a different shard, so that handlers with few shards are spread.
                let share = Share { of: count, number: (number + index) % count };
                let concurrency = own.concurrency.unwrap_or(limits.concurrency).max(1);
                let (concurrency, backlog) = match route.entry.queue {
                    Some(_) => (share.of_limit(concurrency), share.of_limit(limits.backlog)),
                    // Without a queue group, each subscription receives each message.
                    None if share.number == 0 => (concurrency, limits.backlog),
                    None => continue,
                };
                if concurrency == 0 {
                    continue;
                }
                let endpoint = Endpoint {
                    route: route.clone(),
                    wire,
                    republished: own.kind == Kind::Event && republished.iter().any(|pattern| pattern == own.pattern),
                    concurrency,
                    backlog,
                    allowance: limits.allowance(own),
                    stream_idle_timeout: limits.stream_idle_timeout.min(LONGEST),
                    permits: permits.clone(),
                    replies: replies.clone(),
                    credits: shard.credits(),
                    counters: Counters::new(&info.name, own.handler),
                    live: AtomicBool::new(true),
                };
                endpoints[index].push(shard.subscribe(endpoint).await?);
            }
            shard.confirm().await?;
            shards.push(shard);
        }
        let Info { name, version, .. } = &info;
        tracing::info!(service = name, version, handlers = routes.len(), shards = count, "ready");
        let profile = Arc::new(Profile::new(info, instance, endpoints));
        // Discovery starts last, so that a client that finds the service can call it.
        let mut discovery = JoinSet::new();
        discovery.spawn(discovery::respond(profile.clone(), connection.clone(), replies));
        let status = watch::Sender::new(Status::Ready);
        if !readiness.is_empty() {
            ready::note(&readiness, &status);
            discovery.spawn(ready::watch(readiness.clone(), status.clone()));
        }
        Ok(Self {
            profile,
            connection,
            shards,
            discovery,
            readiness,
            status,
            shutdown_timeout: limits.shutdown_timeout,
            unfinished,
        })
    }

    /// Returns the service's connection. Shards on separate threads have their own connections with the same settings.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns a receiver of the current status and its changes.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Checks that the service can serve requests. It must not be shutting down, every guard must have the data for
    /// its decisions, every subscription must be active, and an echo must come back within `limit`. Returns the time
    /// of the slowest echo.
    ///
    /// A server in lame duck mode ([`ConnectionState::LameDuck`](crate::ConnectionState::LameDuck)) does not fail the
    /// check. Requests still reach the service, and if all its instances failed the check at once, the monitoring
    /// system would report an outage that does not exist.
    ///
    /// # Errors
    /// [`NotReady::Dependency`] if a guard lacks data. [`NotReady::Unreachable`] if no echo came back, or at once if
    /// the service is shutting down or a subscription is being renewed.
    pub async fn check(&self, limit: Duration) -> Result<Duration, NotReady> {
        if matches!(*self.status.borrow(), Status::Stopping | Status::Stopped) {
            return Err(RoundTripError { waited: Duration::ZERO }.into());
        }
        ready::check(&self.readiness)?;
        let mut slowest = Duration::ZERO;
        for checked in join_all(self.shards.iter().map(|shard| shard.check(limit))).await {
            slowest = slowest.max(checked?);
        }
        Ok(slowest)
    }

    /// Returns the statistics of each handler since the start, or since the last [reset](Self::reset_stats).
    pub fn stats(&self) -> Vec<RouteStats> {
        self.profile.stats()
    }

    /// Resets the statistics, here and on `$SRV.STATS`.
    pub fn reset_stats(&self) {
        self.profile.reset();
    }

    /// Waits for a failure from which the service cannot recover by itself; returns the failure.
    pub async fn wait_for_failure(&mut self) -> StartError {
        let (error, ..) = select_all(self.shards.iter_mut().map(|shard| Box::pin(shard.wait_for_failure()))).await;
        error
    }

    /// Shuts the service down gracefully, without losing a request: it takes no more requests and finishes those in
    /// flight.
    ///
    /// The shutdown takes as long as the longest handler, at most
    /// [`Limits::shutdown_timeout`](super::Limits::shutdown_timeout); requests that still run then get a 503. Within
    /// the same time it waits for [detached tasks](ServiceContext::spawn_detached), and logs those that it aborts.
    pub async fn stop(mut self) {
        self.status.send_replace(Status::Stopping);
        let name = &self.profile.info().name;
        tracing::info!(service = name, "stopping");
        self.discovery.shutdown().await;
        let (begun, shutdown_timeout) = (Instant::now(), self.shutdown_timeout);
        join_all(self.shards.iter_mut().map(|shard| shard.stop(shutdown_timeout))).await;
        self.unfinished.end(shutdown_timeout.saturating_sub(begun.elapsed())).await;
        self.status.send_replace(Status::Stopped);
        tracing::info!(service = name, "stopped");
    }
}

impl fmt::Debug for ServiceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle")
            .field("service", &self.profile.info().name)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}
