use std::time::Duration;

use crate::deadline::{Allowance, LONGEST};
use crate::route::Route;

/// How much of one handler runs at a time, and how long.
///
/// What arrives while `concurrency` requests run waits in a backlog; what finds that full is answered
/// 503 at once, so that callers can go elsewhere while their deadline still allows it.
///
/// ```
/// use nats_rpc::Limits;
/// use std::time::Duration;
///
/// let limits = Limits { concurrency: 32, timeout: Duration::from_secs(5), ..Limits::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one handler that run at a time; a handler's own `concurrency = …` wins. Default: 256.
    ///
    /// [Shards](crate::Service::shards) divide it among them. A handler whose limit is below the number of shards
    /// runs on that many shards alone.
    pub concurrency: usize,
    /// Requests of one handler that wait for a place; shards divide it among them. Default: 256.
    ///
    /// A handler that only computes never waits for anything, and is never seen to have no place. Behind one,
    /// as many may wait as this says, or as it finishes in 50 ms; that is looked at each 10 ms once it has
    /// fallen behind for 20.
    pub backlog: usize,
    /// Requests of all handlers together that wait for something at a time. Default: 4,096.
    ///
    /// A handler that runs nothing may start one request even so: others that hang cannot keep it from its turn.
    /// As much is [seen through](crate::ServiceContext::spawn_detached) at a time, beside them.
    pub in_flight: usize,
    /// How long a handler may take when its caller allows more, or says nothing; a handler's own
    /// `timeout_ms = …` wins. Default: 30 s.
    pub timeout: Duration,
    /// How long a [`Streaming`](crate::Streaming) may go without sending an item, be it that its handler has
    /// none or that its caller takes none. Default: 30 s.
    pub stream_idle_timeout: Duration,
    /// How far a caller's clock may be behind this machine's. Default: 1 s.
    ///
    /// A request that was held up on its way starts, at worst, this long after its caller has given up.
    /// Where all clocks are kept in step, make it smaller; zero where all run on one machine.
    pub clock_skew: Duration,
    /// How long a stop waits for handlers that run. Default: 30 s.
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
    /// What a handler grants its callers, by its own settings first.
    pub(crate) fn allowance(&self, route: &Route) -> Allowance {
        let limit = route.timeout_ms.map_or(self.timeout, Duration::from_millis);
        Allowance { limit: limit.min(LONGEST), skew: self.clock_skew }
    }
}
