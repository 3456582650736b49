use std::time::{Duration, Instant};

use super::FromRequest;
use crate::error::RpcError;
use crate::message::{Headers, Request};
use crate::subject::Subject;

/// The context of a message: subject, headers, deadline; NestJS's `@Ctx()`.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("report.{id}")]
/// async fn report(context: Context) -> Result<String, RpcError> {
///     if context.remaining() < std::time::Duration::from_millis(50) {
///         return Err(RpcError::deadline_exceeded("too little time is left to build a report"));
///     }
///     Ok(context.subject().to_string())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    subject: Subject,
    headers: Headers,
    deadline: Instant,
}

impl Context {
    /// Returns the subject to which the message was published.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Returns the headers of the message.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the instant at which the caller stops waiting; the service cancels the handler then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the remaining time of the caller. Calls that the handler makes inherit it automatically.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl FromRequest for Context {
    async fn from_request(request: &mut Request) -> Result<Self, RpcError> {
        Ok(Self {
            subject: request.owned_subject(),
            headers: Headers::from_request(request).await?,
            deadline: request.deadline(),
        })
    }
}
