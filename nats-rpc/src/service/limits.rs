use std::time::Duration;

use crate::deadline::{Allowance, LONGEST};
use crate::route::Route;

/// Limits on the concurrency and the duration of handlers.
///
/// While `concurrency` requests run, further ones wait in a backlog. When the backlog is full, the service replies 503
/// immediately, so that callers can try elsewhere within their deadline.
///
/// ```
/// use nats_rpc::Limits;
/// use std::time::Duration;
///
/// let limits = Limits { concurrency: 32, timeout: Duration::from_secs(5), ..Limits::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of concurrent requests of one handler; a handler's own `concurrency = …` takes precedence.
    /// Default: 256.
    ///
    /// [Shards](crate::Service::shards) divide the limit among them. A handler with a limit below the number of shards
    /// runs only on that many shards.
    pub concurrency: usize,
    /// The maximum number of waiting requests of one handler; shards divide it among them. Default: 256.
    ///
    /// A CPU-bound handler never waits, so its slots never fill. Its queue may hold this many requests, or as many as
    /// it finishes in 50 ms, whichever is more. The service checks this every 10 ms once the handler has lagged
    /// for 20 ms.
    pub backlog: usize,
    /// The maximum number of started requests that wait at a time, over all handlers of the service. Default: 4,096.
    ///
    /// A handler without running requests may always start one, so that other handlers that hang cannot block it.
    /// [Detached tasks](crate::ServiceContext::spawn_detached) have a separate limit of the same size.
    pub in_flight: usize,
    /// The handler timeout, used if the caller sends a longer one or none; a handler's own `timeout_ms = …` takes
    /// precedence. Default: 30 s.
    pub timeout: Duration,
    /// The longest time that a [`Streaming`](crate::Streaming) may go without sending an item. The time counts if its
    /// handler yields no item, and also if its caller accepts none. Default: 30 s.
    pub stream_idle_timeout: Duration,
    /// The maximum lag of a caller's clock behind this machine's. Default: 1 s.
    ///
    /// A request that was delayed in transit starts at most this long after its caller has given up. Reduce the value
    /// if all clocks are synchronized; use zero if everything runs on one machine.
    pub clock_skew: Duration,
    /// The time that a graceful shutdown waits for running handlers. Default: 30 s.
    pub shutdown_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        let clock_skew = Duration::from_secs(1);
        Self {
            concurrency: 256,
            backlog: 256,
            in_flight: 4_096,
            timeout,
            stream_idle_timeout: timeout,
            clock_skew,
            shutdown_timeout: timeout,
        }
    }
}

impl Limits {
    /// Returns the time limits for a handler's callers; the handler's own settings take precedence.
    pub(crate) fn allowance(&self, route: &Route) -> Allowance {
        let limit = route.timeout_ms.map_or(self.timeout, Duration::from_millis);
        Allowance { limit: limit.min(LONGEST), skew: self.clock_skew }
    }
}
