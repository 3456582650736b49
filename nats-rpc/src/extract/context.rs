use std::time::{Duration, Instant};

use super::FromRequest;
use crate::error::RpcError;
use crate::message::{Headers, Request};
use crate::subject::Subject;

/// All that surrounds the data: subject, headers, deadline; NestJS's `@Ctx()`.
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
    /// The subject that the message was published to.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The message's headers.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// When the caller stops waiting; the handler is cancelled then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// How long the caller still waits. Calls that the handler makes inherit it by themselves.
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
