mod stream;

use std::fmt;
use std::future::poll_fn;
use std::time::Instant;

use async_nats::Message;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::stream::TestStream;
use crate::client::{CallError, decode};
use crate::error::RpcError;
use crate::message::{HeaderError, Headers};
use crate::reply::ReplyKind;
use crate::route::{BoundRoute, Kind};
use crate::service::exchange::Exchange;
use crate::service::stats::Counters;
use crate::subject::Subject;
use crate::wire::WireFormat;
use crate::{Limits, Service, StartError};

/// The maximum payload that nats-server accepts by default, in bytes.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// A service whose handlers run in this process, without a server: a call takes microseconds.
///
/// Startup checks, wire formats, guards, arguments, deadlines, panics and replies are those of a real service.
/// Features that need NATS are absent: queue groups, load shedding, the connection.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc::testing::TestService;
///
/// #[message_pattern("math.double")]
/// async fn double(Payload(n): Payload<i32>) -> Result<i32, RpcError> {
///     n.checked_mul(2).ok_or_else(|| RpcError::invalid_argument("too large"))
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let service = TestService::new(Service::new("math", "1.0.0").handlers(handlers![double]))?;
/// assert_eq!(service.send::<i32>("math.double", &21).await?, 42);
///
/// let error = service.send::<i32>("math.double", &i32::MAX).await.unwrap_err();
/// assert_eq!(error.code(), Some(Code::InvalidArgument));
/// # Ok(())
/// # }
/// ```
pub struct TestService {
    routes: std::sync::Arc<[BoundRoute]>,
    wire: WireFormat,
    limits: Limits,
    headers: Result<Headers, HeaderError>,
}

impl TestService {
    /// Runs every startup check of `service` and binds its handlers.
    ///
    /// # Errors
    /// [`StartError::Invalid`], as at a real start, and for every value that needs a connection to be created: pass
    /// such a value itself with `provide` or `guard`.
    pub fn new(service: Service) -> Result<Self, StartError> {
        let (routes, wire, limits) = service.bind_in_process()?;
        Ok(Self { routes: routes.into(), wire, limits, headers: Ok(Headers::new()) })
    }

    /// Returns the same service, called with `token` in the header `authorization`.
    #[must_use]
    pub fn bearer(&self, token: impl AsRef<str>) -> Self {
        self.header("authorization", format!("Bearer {}", token.as_ref()))
    }

    /// Returns the same service, called with a header.
    #[must_use]
    pub fn header(&self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let headers = self.headers.clone().and_then(|mut headers| {
            headers.insert(name.as_ref(), value.as_ref())?;
            Ok(headers)
        });
        Self { routes: self.routes.clone(), headers, ..*self }
    }

    /// Calls the handler of `subject`, as [`Client::send`](crate::Client::send) does.
    ///
    /// # Errors
    /// [`CallError::Remote`], [`CallError::NoResponders`], [`CallError::Invalid`] and
    /// [`CallError::Decode`], as for a real call.
    pub async fn send<R: DeserializeOwned>(
        &self,
        subject: impl AsRef<str>,
        data: &(impl Serialize + ?Sized),
    ) -> Result<R, CallError> {
        let data = serde_json::to_vec(data).map_err(|error| CallError::Invalid(error.to_string()))?;
        let (headers, body) = self.request(subject.as_ref(), data).await?;
        decode(Some(&headers.into_nats()), &body)
    }

    /// Sends `body` unchanged and returns the reply unchanged, for tests of envelopes and invalid input.
    ///
    /// # Errors
    /// [`CallError::NoResponders`] if no message handler matches `subject`, [`CallError::Invalid`] if the subject or a
    /// header cannot be sent.
    pub async fn request(&self, subject: &str, body: impl Into<Bytes>) -> Result<(Headers, Bytes), CallError> {
        let message = self.message(subject, body.into(), true)?;
        let answer = self.run(self.responder(subject)?, message).await;
        answer.ok_or_else(|| CallError::NoResponders { subject: subject.to_owned() })
    }

    /// Publishes an event and waits until all its handlers have run; returns their number.
    ///
    /// # Errors
    /// [`CallError::Invalid`] if the subject, the data or a header cannot be sent.
    pub async fn emit(&self, subject: &str, data: &(impl Serialize + ?Sized)) -> Result<usize, CallError> {
        let data: Bytes = serde_json::to_vec(data).map_err(|error| CallError::Invalid(error.to_string()))?.into();
        let mut handlers = 0;
        for route in self.routes.iter().filter(|route| is_for(route, Kind::Event, subject)) {
            self.run(route, self.message(subject, data.clone(), false)?).await;
            handlers += 1;
        }
        Ok(handlers)
    }

    fn message(&self, subject: &str, payload: Bytes, wants_answer: bool) -> Result<Message, CallError> {
        let subject = Subject::new(subject).map_err(|error| CallError::Invalid(error.to_string()))?;
        let headers = self.headers.clone()?;
        Ok(Message {
            subject: subject.into_nats(),
            reply: wants_answer.then(|| async_nats::Subject::from_static("_INBOX.test")),
            length: payload.len(),
            payload,
            headers: (!headers.is_empty()).then(|| headers.into_nats()),
            status: None,
            description: None,
        })
    }

    /// Returns the message handler that matches `subject`.
    fn responder(&self, subject: &str) -> Result<&BoundRoute, CallError> {
        let route = self.routes.iter().find(|route| is_for(route, Kind::Message, subject));
        route.ok_or_else(|| CallError::NoResponders { subject: subject.to_owned() })
    }

    async fn run(&self, route: &BoundRoute, message: Message) -> Option<(Headers, Bytes)> {
        let (mut call, result) = self.begin(route, message).await;
        call.conclude(result.and_then(whole))
    }

    /// Runs the handler until it returns.
    async fn begin(&self, route: &BoundRoute, mut message: Message) -> (Call, Result<ReplyKind, RpcError>) {
        let allowance = self.limits.allowance(route.entry.route);
        let now = Instant::now();
        let counters = Counters::new("test", route.entry.route.handler);
        counters.began();
        let mut exchange = Exchange::open(route, allowance, &mut message, now, now);
        let request = exchange.request(self.wire, &mut message);
        let mut call = Call { exchange, counters, out: Vec::new() };
        let Call { exchange, out, .. } = &mut call;
        let result = match request {
            Err(error) => Err(error),
            Ok(request) => {
                let mut handler = route.handler.make_slot(&route.guards);
                handler.start(request);
                let polled = poll_fn(|cx| exchange.poll(&mut *handler, cx, out));
                let finished = tokio::time::timeout_at(exchange.deadline.into(), polled).await;
                finished.unwrap_or_else(|_| exchange.cancel(&mut *handler).and(Err(late())))
            }
        };
        (call, result)
    }
}

/// A message in its handler.
struct Call {
    exchange: Exchange,
    counters: Counters,
    out: Vec<u8>,
}

impl Call {
    /// Returns the reply, whose value is in `out`; `None` if the message expects no reply.
    fn conclude(&mut self, result: Result<ReplyKind, RpcError>) -> Option<(Headers, Bytes)> {
        let Self { exchange, counters, out } = self;
        let answer = exchange.conclude(result, Instant::now(), MAX_PAYLOAD, counters, out)?;
        Some((Headers::received(answer.headers.unwrap_or_default()), std::mem::take(out).into()))
    }
}

impl fmt::Debug for TestService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestService").field("routes", &self.routes.len()).finish_non_exhaustive()
    }
}

/// Rejects a stream, which does not fit into one message.
fn whole(written: ReplyKind) -> Result<ReplyKind, RpcError> {
    match written {
        ReplyKind::Stream(_) => {
            Err(RpcError::invalid_argument("this handler answers with a stream: call it with `stream`"))
        }
        written => Ok(written),
    }
}

fn late() -> RpcError {
    RpcError::deadline_exceeded("the handler did not finish by the deadline")
}

fn is_for(route: &BoundRoute, kind: Kind, subject: &str) -> bool {
    route.entry.route.kind == kind && route.entry.pattern.matches(subject)
}
