//! Calling services.

mod answer;
mod error;
mod inbox;
mod observe;
mod retry;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::answer::decode;
pub use self::error::{CallError, RemoteError};
use self::inbox::Inbox;
use self::observe::observed;
use self::retry::{Backoff, Budget};
use crate::connection::{ConnectError, Connection, ConnectionState, NatsConfig};
use crate::deadline::{self, LONGEST};
use crate::error::Code;
use crate::message::{HeaderError, Headers};
use crate::subject::Subject;
use crate::trace;

/// How long a call waits when nothing else was said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a subject without a listener is tried again: after nats-server was away, callers are back
/// milliseconds before the services that they call.
const DEFAULT_PATIENCE: Duration = Duration::from_millis(500);

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
/// at a time; further ones wait their turn, within their deadline.
#[derive(Clone)]
#[must_use = "a client does nothing until `send` or `emit`"]
pub struct Client {
    connection: Connection,
    inbox: Arc<Inbox>,
    headers: Result<Headers, HeaderError>,
    timeout: Duration,
    patience: Duration,
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
        Ok(Self::over(&Connection::open(config).await?))
    }

    /// Calls over a connection that exists, such as a service's own.
    pub fn over(connection: &Connection) -> Self {
        Self {
            inbox: Inbox::open(connection),
            connection: connection.clone(),
            headers: Ok(Headers::new()),
            timeout: DEFAULT_TIMEOUT,
            patience: DEFAULT_PATIENCE,
            wait_for_ready: false,
            idempotent: false,
            budget: Arc::default(),
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

    /// The same client with another patience for a subject that nobody listens to. Default: 500 ms.
    ///
    /// Such a call was not delivered, so it is safe to send it again, for at most half of the time that the
    /// call has; zero says so at once.
    pub fn patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
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

    /// Calls the handler of `subject` and waits for its answer.
    ///
    /// # Errors
    /// - [`CallError::Answered`]: the handler answered with an error.
    /// - [`CallError::NoResponders`]: nobody listens to `subject`, nor began to within the
    ///   [patience](Self::patience); nothing was executed.
    /// - [`CallError::TimedOut`], [`CallError::ConnectionLost`]: no answer came; it may have executed.
    /// - [`CallError::Disconnected`]: there is no connection now; nothing was sent. Not with
    ///   [`wait_for_ready`](Self::wait_for_ready).
    /// - [`CallError::Forbidden`]: this user may not publish to `subject`; nothing was executed.
    /// - [`CallError::Deaf`]: this user may not listen for the answer; it may have executed.
    /// - [`CallError::Invalid`], [`CallError::TooLarge`]: the call cannot be sent as it is.
    /// - [`CallError::Decode`]: the answer is not an `R`.
    pub async fn send<R: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        let subject = subject.as_ref();
        observed(subject, false, self.call(subject, data)).await
    }

    async fn call<R: DeserializeOwned>(&self, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<R, CallError> {
        let subject = checked(subject)?;
        let headers = self.headers.clone()?;
        let payload = written(data)?;
        let started = Instant::now();
        let until = self.deadline();
        // Time is kept for saying that nobody listens: "may have executed" would be wrong.
        let patience = self.patience.min(until.saturating_duration_since(started) / 2);
        let call = async {
            let mut backoff = Backoff::default();
            self.budget.deposit();
            loop {
                let error = match self.attempt(&subject, &headers, &payload, until).await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                if !self.is_worth_another(&error, started.elapsed() < patience) {
                    return Err(error);
                }
                backoff.pause().await;
            }
        };
        let timed_out = |_| CallError::TimedOut { subject: subject.to_string(), after: until.duration_since(started) };
        tokio::time::timeout_at(until.into(), call).await.map_err(timed_out)?
    }

    async fn attempt<R: DeserializeOwned>(
        &self,
        subject: &Subject,
        headers: &Headers,
        payload: &bytes::Bytes,
        until: Instant,
    ) -> Result<R, CallError> {
        self.ready().await?;
        let mut headers = headers.clone().into_nats();
        deadline::write(&mut headers, until.saturating_duration_since(Instant::now()));
        trace::inject(&mut headers);
        self.check_size(&headers, payload)?;
        let answer = self.inbox.call(subject, headers, payload.clone()).await?;
        decode(answer.headers.as_ref(), &answer.payload)
    }

    fn is_worth_another(&self, error: &CallError, patient: bool) -> bool {
        match error {
            CallError::NoResponders { .. } => patient,
            CallError::Disconnected => self.wait_for_ready,
            CallError::ConnectionLost { .. } => self.idempotent && self.budget.withdraw(),
            CallError::Answered(error) => {
                self.idempotent && error.code() == Some(Code::Unavailable) && self.budget.withdraw()
            }
            _ => false,
        }
    }

    /// Publishes an event to `subject` and does not wait for anybody.
    ///
    /// The event is handed to the connection, at most once: a server that goes down may take it along, and one
    /// that forbids it says so in the log alone.
    ///
    /// # Errors
    /// [`CallError::Disconnected`], [`CallError::TimedOut`], [`CallError::Invalid`] and
    /// [`CallError::TooLarge`], as for [`send`](Self::send).
    pub async fn emit(&self, subject: impl AsRef<str>, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let subject = subject.as_ref();
        observed(subject, true, self.publish(subject, data)).await
    }

    async fn publish(&self, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<(), CallError> {
        let subject = checked(subject)?;
        let headers = self.headers.clone()?;
        let payload = written(data)?;
        let until = self.deadline();
        let after = until.saturating_duration_since(Instant::now());
        let published = async {
            self.ready().await?;
            let mut headers = headers.into_nats();
            trace::inject(&mut headers);
            self.check_size(&headers, &payload)?;
            let nats = self.connection.nats();
            let to = subject.clone().into_nats();
            let published = match headers.is_empty() {
                true => nats.publish(to, payload).await,
                false => nats.publish_with_headers(to, headers, payload).await,
            };
            published.map_err(|_| CallError::Disconnected)
        };
        let timed_out = |_| CallError::TimedOut { subject: subject.to_string(), after };
        tokio::time::timeout_at(until.into(), published).await.map_err(timed_out)?
    }

    fn deadline(&self) -> Instant {
        let own = Instant::now() + self.timeout.min(LONGEST);
        deadline::current().map_or(own, |inherited| inherited.min(own))
    }

    /// Refuses what the server would: a message with its headers counts.
    fn check_size(&self, headers: &HeaderMap, payload: &[u8]) -> Result<(), CallError> {
        let max = self.connection.nats().max_payload();
        match written_size(headers) + payload.len() {
            size if size > max => Err(CallError::TooLarge { size, max }),
            _ => Ok(()),
        }
    }

    /// Fails fast while there is no connection, or waits for one.
    async fn ready(&self) -> Result<(), CallError> {
        let is_up = |state: &ConnectionState| matches!(state, ConnectionState::Connected | ConnectionState::LameDuck);
        if is_up(&self.connection.state()) {
            return Ok(());
        }
        if !self.wait_for_ready {
            return Err(CallError::Disconnected);
        }
        self.connection.wait_for(is_up).await;
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

fn written(data: &(impl Serialize + ?Sized)) -> Result<bytes::Bytes, CallError> {
    let payload = serde_json::to_vec(data);
    payload.map(Into::into).map_err(|error| CallError::Invalid(format!("the data cannot be written as JSON: {error}")))
}

/// What headers take on the wire: `NATS/1.0` and an empty line, and `name: value` for each of them.
fn written_size(headers: &HeaderMap) -> usize {
    if headers.is_empty() {
        return 0;
    }
    let lines = headers.iter().flat_map(|(name, values)| {
        let name = AsRef::<str>::as_ref(name).len();
        values.iter().map(move |value| name + ": \r\n".len() + value.as_str().len())
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn checked(subject: &str) -> Result<Subject, CallError> {
    Subject::new(subject).map_err(|error| CallError::Invalid(error.to_string()))
}
