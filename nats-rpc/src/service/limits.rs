use std::time::Duration;

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
    pub concurrency: usize,
    /// Requests of one handler that wait for a place. Default: 256.
    pub backlog: usize,
    /// Requests of all handlers together that wait for something at a time. Default: 4,096.
    pub in_flight: usize,
    /// How long a handler may take when its caller allows more, or says nothing; a handler's own
    /// `timeout_ms = …` wins. Default: 30 s.
    pub timeout: Duration,
    /// How long a stop waits for handlers that run. Default: 30 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        Self { concurrency: 256, backlog: 256, in_flight: 4_096, timeout, drain: timeout }
    }
}
