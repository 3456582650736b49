//! Client for calling services.

mod answer;
mod call;
mod capture;
mod error;
mod feed;
mod inbox;
mod nest;
mod observe;
mod retry;
mod stream;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "testing")]
pub(crate) use self::answer::decode;
pub use self::error::{CallError, RemoteError};
use self::inbox::Inbox;
use self::retry::Budget;
pub use self::stream::ResponseStream;
use crate::connection::{ConnectError, Connection, NatsConfig};
use crate::message::{HeaderError, Headers};
use crate::trace::{self, TraceContext};
use crate::wire::stream::MAX_WINDOW;

/// The default timeout of a call.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The default time for which a subject without responders is retried: after an outage of nats-server, callers
/// reconnect milliseconds before the services that they call.
const DEFAULT_NO_RESPONDERS_TIMEOUT: Duration = Duration::from_millis(500);
/// The default timeout of a whole stream.
const DEFAULT_STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// The default number of items that are in flight or buffered.
const DEFAULT_WINDOW: u64 = 32;

/// A client for calling services, the counterpart of NestJS's `ClientProxy`. Cheap to clone.
///
/// ```no_run
/// use nats_rpc::{Client, NatsConfig};
///
/// # #[derive(serde::Serialize)] struct GetUser { id: u64 }
/// # #[derive(serde::Deserialize)] struct User { name: String }
/// # async fn run(token: &str) -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(&NatsConfig::from_env()?).await?;
/// let user: User = client.bearer(token).send("get_user", &GetUser { id: 7 }).await?;
/// client.emit("user.seen", &user.name).await?;
/// # Ok(())
/// # }
/// ```
///
/// Every call ends by its deadline. The deadline is the earlier of two: the [`timeout`](Self::timeout), 5 s by
/// default, and the deadline of the handler that makes the call. It propagates with the call, so that a service never
/// starts work whose caller has given up. A client and its clones run at most 4,096 calls and 1,024 streams
/// concurrently; further ones wait their turn, within their deadline.
#[derive(Clone)]
#[must_use = "a client does nothing until `send`, `stream` or `emit`"]
pub struct Client {
    connection: Connection,
    inbox: Arc<Inbox>,
    streams: Arc<Inbox>,
    headers: Result<Headers, HeaderError>,
    bearer_header: Cow<'static, str>,
    nest: bool,
    timeout: Duration,
    stream_timeout: Duration,
    item_timeout: Duration,
    window: u64,
    no_responders_timeout: Duration,
    wait_for_ready: bool,
    idempotent: bool,
    budget: Arc<Budget>,
}

impl Client {
    /// Opens a connection that is used only for calls.
    ///
    /// # Errors
    /// Those of [`Connection::open`].
    pub async fn connect(config: &NatsConfig) -> Result<Self, ConnectError> {
        Ok(Self::new(Connection::open(config).await?))
    }

    /// Creates a client for calls over `connection`, such as a clone of the service's own.
    pub fn new(connection: Connection) -> Self {
        Self {
            inbox: Inbox::of_calls(&connection),
            streams: Inbox::of_streams(&connection),
            connection,
            headers: Ok(Headers::new()),
            bearer_header: Cow::Borrowed("authorization"),
            nest: false,
            timeout: DEFAULT_TIMEOUT,
            stream_timeout: DEFAULT_STREAM_TIMEOUT,
            item_timeout: DEFAULT_TIMEOUT,
            window: DEFAULT_WINDOW,
            no_responders_timeout: DEFAULT_NO_RESPONDERS_TIMEOUT,
            wait_for_ready: false,
            idempotent: false,
            budget: Arc::default(),
        }
    }

    /// Returns a client that calls NestJS services in NestJS's own wire format.
    ///
    /// The subject is the pattern: `users.get`, `42` for a number, and for an object its JSON in any order, such as
    /// `{"cmd": "sum"}`. Data is sent as `{"pattern","data","id"}`. The client reads every form of reply that a NestJS
    /// service sends; a reply without a value is a `()` or `None`.
    ///
    /// A NestJS service sends no sign of life, so the client detects a dead service only by the timeout. It also sends
    /// its streams as fast as it can: a stream that is 1,024 items ahead of its reader ends with
    /// [`CallError::IncompleteResponse`].
    ///
    /// ```no_run
    /// # async fn run(client: nats_rpc::Client) -> Result<(), nats_rpc::CallError> {
    /// let sum: i64 = client.nest().send(r#"{"cmd":"sum"}"#, &[1, 2, 3]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn nest(&self) -> Self {
        Self { nest: true, ..self.clone() }
    }

    /// Returns a client that sends `token` in the header `authorization`, or in [another header](Self::bearer_header).
    pub fn bearer(&self, token: impl AsRef<str>) -> Self {
        self.header(&self.bearer_header, format!("Bearer {}", token.as_ref()))
    }

    /// Returns a client whose [`bearer`](Self::bearer) sends tokens in a header with this exact spelling.
    ///
    /// A guard in JavaScript that reads `Authorization` does not find `authorization`; services of this crate find
    /// either.
    pub fn bearer_header(&self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { bearer_header: name.into(), ..self.clone() }
    }

    /// Returns a client that sends an additional header with this exact spelling.
    ///
    /// A name or a value that NATS cannot carry makes each call fail with [`CallError::Invalid`].
    pub fn header(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let mut client = self.clone();
        if let Ok(headers) = &mut client.headers
            && let Err(error) = headers.insert(name.as_ref(), value.as_ref())
        {
            client.headers = Err(error);
        }
        client
    }

    /// Returns a client whose calls continue the trace given by W3C Trace Context's `traceparent` and `tracestate`.
    ///
    /// It is for a program that receives requests by another protocol, such as HTTP; calls of a handler continue the
    /// trace of its request automatically. A malformed `traceparent` is ignored, as the recommendation requires, and
    /// so is a malformed `tracestate`. An empty `tracestate` counts as absent.
    pub fn continue_trace(&self, traceparent: &str, tracestate: &str) -> Self {
        let Some(context) = TraceContext::parse(traceparent, tracestate) else { return self.clone() };
        let client = self.header(trace::PARENT, context.parent());
        match context.state() {
            Some(state) => client.header(trace::STATE, state),
            None => client,
        }
    }

    /// Returns a client with this timeout for a call. Default: 5 s.
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// Returns a client with this limit for a whole [`stream`](Self::stream). Default: 30 s.
    pub fn stream_timeout(&self, timeout: Duration) -> Self {
        Self { stream_timeout: timeout, ..self.clone() }
    }

    /// Returns a client with this limit between two items of a [`stream`](Self::stream), and before the first.
    /// Default: 5 s. The time in which the caller does not poll for an item is not counted.
    pub fn item_timeout(&self, timeout: Duration) -> Self {
        Self { item_timeout: timeout, ..self.clone() }
    }

    /// Returns a client with this window: the number of items of a [`stream`](Self::stream) that are in flight or
    /// buffered, from 1 to 1,024. Default: 32. A client with many open streams gives them smaller windows.
    pub fn window(&self, items: u16) -> Self {
        Self { window: u64::from(items).clamp(1, MAX_WINDOW), ..self.clone() }
    }

    /// Returns a client with this timeout for a subject without responders. Default: 500 ms.
    ///
    /// Such a call was not delivered, so the client can safely send it again. It does so for at most half of the
    /// call's time; with zero, the call fails at once.
    pub fn no_responders_timeout(&self, no_responders_timeout: Duration) -> Self {
        Self { no_responders_timeout, ..self.clone() }
    }

    /// Returns a client that waits for a connection, within its deadline, instead of failing immediately.
    pub fn wait_for_ready(&self) -> Self {
        Self { wait_for_ready: true, ..self.clone() }
    }

    /// Returns a client for calls that may be executed more than once.
    ///
    /// The client sends a call again within its deadline after [`CallError::ConnectionLost`] or a 503. All clones
    /// together retry at most one call in ten, so that retries do not overload a struggling service.
    pub fn idempotent(&self) -> Self {
        Self { idempotent: true, ..self.clone() }
    }

    /// Returns the connection that this client uses.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
