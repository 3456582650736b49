//! Calling services.

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

/// How long a call waits when nothing else was said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a subject without a listener is tried again: after nats-server was away, callers are back
/// milliseconds before the services that they call.
const DEFAULT_NO_RESPONDERS_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a stream lasts, unless something else was said.
const DEFAULT_STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// How many items are on their way or wait, unless something else was said.
const DEFAULT_WINDOW: u64 = 32;

/// A caller of services; NestJS's `ClientProxy`. Cheap to clone.
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
/// Every call ends by its deadline: 5 s, or what [`timeout`](Self::timeout) says, or the deadline of the
/// handler that makes the call, whichever is first. The deadline travels with the call, so a service
/// never starts work that nobody waits for. At most 4,096 calls of a client and its clones are under way
/// at a time, and 1,024 streams; further ones wait their turn, within their deadline.
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
    /// Opens a connection for calls alone.
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

    /// The same client, which calls NestJS services as NestJS's own client does.
    ///
    /// A subject stands for the pattern: `users.get`, `42` for a number, and for an object its JSON in any
    /// order, such as `{"cmd": "sum"}`. Data travels as `{"pattern","data","id"}`, and every form of answer
    /// is read that a NestJS service sends; one without a value is a `()` or `None`.
    ///
    /// NestJS never says that it gives up, so a dead service shows by the timeout alone, and it sends its
    /// streams as fast as it can: one that is 1,024 items ahead of its reader ends with
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

    /// The same client with `token` in the header `authorization`, or [another](Self::bearer_header).
    pub fn bearer(&self, token: impl AsRef<str>) -> Self {
        self.header(&self.bearer_header, format!("Bearer {}", token.as_ref()))
    }

    /// The same client, whose [`bearer`](Self::bearer) puts tokens in a header spelled like this.
    ///
    /// A guard in JavaScript that asks for `Authorization` does not find `authorization`; services of this
    /// crate find either.
    pub fn bearer_header(&self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { bearer_header: name.into(), ..self.clone() }
    }

    /// The same client with a header, spelled like this.
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

    /// The same client, whose calls continue the trace that `traceparent` and `tracestate` of W3C Trace Context say.
    ///
    /// It is for a program that takes requests by another protocol, such as HTTP; calls of a handler continue the
    /// trace of its request by themselves. A malformed `traceparent` is ignored, as the recommendation says, and so is
    /// a malformed `tracestate`; an empty one is none.
    pub fn continue_trace(&self, traceparent: &str, tracestate: &str) -> Self {
        let Some(context) = TraceContext::parse(traceparent, tracestate) else { return self.clone() };
        let client = self.header(trace::PARENT, context.parent());
        match context.state() {
            Some(state) => client.header(trace::STATE, state),
            None => client,
        }
    }

    /// The same client with another timeout. Default: 5 s.
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The same client with another limit for a whole [`stream`](Self::stream). Default: 30 s.
    pub fn stream_timeout(&self, timeout: Duration) -> Self {
        Self { stream_timeout: timeout, ..self.clone() }
    }

    /// The same client with another limit from one item of a [`stream`](Self::stream) to the next, the first
    /// included. Default: 5 s. Time in which nobody asks for an item is not counted.
    pub fn item_timeout(&self, timeout: Duration) -> Self {
        Self { item_timeout: timeout, ..self.clone() }
    }

    /// The same client with another number of items of a [`stream`](Self::stream) that are on their way or wait
    /// to be taken, from 1 to 1,024. Default: 32. Where a client has many streams open at a time, they are
    /// given smaller windows.
    pub fn window(&self, items: u16) -> Self {
        Self { window: u64::from(items).clamp(1, MAX_WINDOW), ..self.clone() }
    }

    /// The same client with another timeout for a subject without responders. Default: 500 ms.
    ///
    /// Such a call was not delivered, so it is safe to send it again, for at most half of the time that the
    /// call has; zero says so at once.
    pub fn no_responders_timeout(&self, no_responders_timeout: Duration) -> Self {
        Self { no_responders_timeout, ..self.clone() }
    }

    /// The same client, which waits for a connection, within its deadline, where it would fail fast.
    pub fn wait_for_ready(&self) -> Self {
        Self { wait_for_ready: true, ..self.clone() }
    }

    /// The same client for calls that may be executed more than once.
    ///
    /// What ended in [`CallError::ConnectionLost`] or was answered 503 is sent again within the deadline.
    /// All clones together retry at most one call in ten, so that a struggling service is not buried.
    pub fn idempotent(&self) -> Self {
        Self { idempotent: true, ..self.clone() }
    }

    /// The connection that the calls go over.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
