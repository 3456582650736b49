//! Calling services.

mod answer;
mod error;
mod inbox;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::answer::decode;
pub use self::error::{CallError, RemoteError};
use self::inbox::Inbox;
use crate::connection::{ConnectError, Connection, ConnectionState, NatsConfig};
use crate::deadline;
use crate::message::{HeaderError, Headers};
use crate::subject::Subject;

/// How long a call waits when nothing else was said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

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
/// never starts work that nobody waits for.
#[derive(Clone)]
#[must_use = "a client does nothing until `send` or `emit`"]
pub struct Client {
    connection: Connection,
    inbox: Arc<Inbox>,
    headers: Result<Headers, HeaderError>,
    timeout: Duration,
}

impl Client {
    /// Opens a connection for calls alone.
    ///
    /// # Errors
    /// Those of [`Connection::open`].
    pub async fn connect(config: &NatsConfig) -> Result<Self, ConnectError> {
        Ok(Self::over(&Connection::open(config).await?))
    }

    /// Calls over a connection that exists, such as a service's own.
    pub fn over(connection: &Connection) -> Self {
        Self {
            inbox: Inbox::open(connection),
            connection: connection.clone(),
            headers: Ok(Headers::new()),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The same client with `token` in the header `authorization`.
    pub fn bearer(&self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
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

    /// The same client with another timeout. Default: 5 s.
    pub fn timeout(&self, timeout: Duration) -> Self {
        Self { timeout, ..self.clone() }
    }

    /// The connection that the calls go over.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Calls the handler of `subject` and waits for its answer.
    ///
    /// # Errors
    /// - [`CallError::Answered`]: the handler answered with an error.
    /// - [`CallError::NoResponders`]: nobody listens to `subject`; nothing was executed.
    /// - [`CallError::TimedOut`], [`CallError::ConnectionLost`]: no answer came; it may have executed.
    /// - [`CallError::Disconnected`]: there is no connection now; nothing was sent.
    /// - [`CallError::Forbidden`]: this user may not publish to `subject`; nothing was executed.
    /// - [`CallError::Invalid`], [`CallError::TooLarge`]: the call cannot be sent as it is.
    /// - [`CallError::Decode`]: the answer is not an `R`.
    pub async fn send<R: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        let subject = checked(subject.as_ref())?;
        let until = self.deadline();
        let left = until.saturating_duration_since(Instant::now());
        let timed_out = || CallError::TimedOut { subject: subject.to_string(), after: left };
        if left.is_zero() {
            return Err(timed_out());
        }
        let mut headers = self.headers.clone()?.into_nats();
        deadline::write(&mut headers, left);
        let payload = self.payload(data)?;
        self.check_connected()?;
        let call = self.inbox.call(&subject, headers, payload);
        let answer = tokio::time::timeout_at(until.into(), call).await.map_err(|_| timed_out())??;
        decode(answer.headers.as_ref(), &answer.payload)
    }

    /// Publishes an event to `subject` and does not wait for anybody.
    ///
    /// The event is handed to the connection, at most once: a server that goes down may take it along.
    ///
    /// # Errors
    /// [`CallError::Disconnected`], [`CallError::TimedOut`], [`CallError::Invalid`] and
    /// [`CallError::TooLarge`], as for [`send`](Self::send).
    pub async fn emit(&self, subject: impl AsRef<str>, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let subject = checked(subject.as_ref())?;
        let headers = self.headers.clone()?;
        let payload = self.payload(data)?;
        self.check_connected()?;
        let until = self.deadline();
        let after = until.saturating_duration_since(Instant::now());
        let nats = self.connection.nats();
        let to = subject.clone().into_nats();
        let published = async {
            match headers.is_empty() {
                true => nats.publish(to, payload).await,
                false => nats.publish_with_headers(to, headers.into_nats(), payload).await,
            }
        };
        let published = tokio::time::timeout_at(until.into(), published).await;
        let published = published.map_err(|_| CallError::TimedOut { subject: subject.to_string(), after })?;
        published.map_err(|_| CallError::Disconnected)
    }

    fn deadline(&self) -> Instant {
        let own = Instant::now() + self.timeout;
        deadline::current().map_or(own, |inherited| inherited.min(own))
    }

    fn payload(&self, data: &(impl Serialize + ?Sized)) -> Result<bytes::Bytes, CallError> {
        let payload = serde_json::to_vec(data)
            .map_err(|error| CallError::Invalid(format!("the data cannot be written as JSON: {error}")))?;
        let max = self.connection.nats().max_payload();
        match payload.len() {
            size if size > max => Err(CallError::TooLarge { size, max }),
            _ => Ok(payload.into()),
        }
    }

    fn check_connected(&self) -> Result<(), CallError> {
        match self.connection.state() {
            ConnectionState::Connected | ConnectionState::LameDuck => Ok(()),
            ConnectionState::Disconnected | ConnectionState::Closed => Err(CallError::Disconnected),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn checked(subject: &str) -> Result<Subject, CallError> {
    Subject::new(subject).map_err(|error| CallError::Invalid(error.to_string()))
}
