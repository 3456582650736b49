//! The one error that leaves a handler: a code, a message for the caller, and a private cause.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::decode::unwritable;

/// What went wrong, in the words of gRPC and with the numbers of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 400: the caller's message cannot be used as it is.
    InvalidArgument,
    /// 401: nothing proves who calls.
    Unauthenticated,
    /// 403: who calls is known and may not do this.
    PermissionDenied,
    /// 404: what was asked for does not exist.
    NotFound,
    /// 409: the change collides with another.
    Conflict,
    /// 413: a message is larger than the server or the handler takes.
    PayloadTooLarge,
    /// 429: the caller asks too often.
    ResourceExhausted,
    /// 500: a fault of the service.
    Internal,
    /// 503: the service cannot answer now; try again.
    Unavailable,
    /// 504: the deadline passed.
    DeadlineExceeded,
}

impl Code {
    pub(crate) const ALL: [Self; 10] = [
        Self::InvalidArgument,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::NotFound,
        Self::Conflict,
        Self::PayloadTooLarge,
        Self::ResourceExhausted,
        Self::Internal,
        Self::Unavailable,
        Self::DeadlineExceeded,
    ];

    /// The number that travels in the header `Nats-Service-Error-Code`.
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::PayloadTooLarge => 413,
            Self::ResourceExhausted => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// The name that travels in the body's `code`, such as `NOT_FOUND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict => "CONFLICT",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
        }
    }

    /// The code of a status number; `None` for a number that no code has.
    pub fn from_status(status: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.status() == status)
    }

    /// The code of a name such as `NOT_FOUND`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error answer: a [`Code`], a message for the caller, and a cause that stays in the service's log.
///
/// ```
/// use nats_rpc::{Code, RpcError};
///
/// let error = RpcError::not_found("no such user").with_details(serde_json::json!({ "userId": "7" }));
/// assert_eq!(error.code(), Code::NotFound);
///
/// // The cause of a 500 never reaches the caller.
/// let error = RpcError::internal(std::io::Error::other("disk /dev/sda1 is full"));
/// assert_eq!(error.message(), "internal error");
/// ```
pub struct RpcError(Box<Inner>);

struct Inner {
    code: Code,
    message: Cow<'static, str>,
    details: Option<Box<RawValue>>,
    source: Option<Box<dyn Error + Send + Sync>>,
    body: Option<Box<RawValue>>,
}

impl RpcError {
    /// An error of `code`; `message` is for the caller, so it names what to mend and no secret.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), details: None, source: None, body: None }))
    }

    /// 400: the caller's message cannot be used as it is.
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// 401: nothing proves who calls.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// 403: who calls is known and may not do this.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// 404: what was asked for does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// 409: the change collides with another.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// 413: a message is larger than the server or the handler takes.
    pub fn payload_too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PayloadTooLarge, message)
    }

    /// 429: the caller asks too often.
    pub fn resource_exhausted(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// 503: the service cannot answer now; try again.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// 504: the deadline passed.
    pub fn deadline_exceeded(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    /// 500: a fault of the service. The caller reads "internal error"; `source` goes to the log.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "internal error").with_source(source)
    }

    /// Adds `details`, any JSON, for callers that can act on more than the code.
    ///
    /// Details that cannot be serialised are left out, with a line in the log.
    #[must_use]
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.0.details = to_raw_value(&details)
            .inspect_err(|error| tracing::error!(error = unwritable(error), "error details left out: they are no JSON"))
            .ok();
        self
    }

    /// Adds the cause, for the log alone.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Answers with exactly this JSON in place of `{code, message, details}`.
    ///
    /// For a service that must look to its callers exactly like the one it replaces; headers still
    /// carry the code. A body that cannot be serialised is left out, with a line in the log.
    ///
    /// ```
    /// # use nats_rpc::RpcError;
    /// // What a NestJS guard that returns false sends.
    /// let error = RpcError::forbidden("Forbidden resource")
    ///     .with_body(serde_json::json!({ "status": "error", "message": "Forbidden resource" }));
    /// ```
    #[must_use]
    pub fn with_body(mut self, body: impl Serialize) -> Self {
        self.0.body = to_raw_value(&body)
            .inspect_err(|error| tracing::error!(error = unwritable(error), "error body left out: it is no JSON"))
            .ok();
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The details for the caller, as JSON.
    pub fn details(&self) -> Option<&RawValue> {
        self.0.details.as_deref()
    }

    pub(crate) fn body(&self) -> Option<&RawValue> {
        self.0.body.as_deref()
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, message, source, .. } = &*self.0;
        f.debug_struct("RpcError")
            .field("code", code)
            .field("message", message)
            .field("source", source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code, self.0.message)
    }
}

impl Error for RpcError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// How an application's own error becomes an answer; derive it with [`macro@crate::IntoRpcError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be answered to a caller",
    label = "not an `RpcError`, and nothing says which code it has",
    note = "derive `IntoRpcError` on it, or call `.internal()` on the `Result` to answer 500 and log the cause"
)]
pub trait IntoRpcError {
    /// The error to answer with.
    fn into_rpc_error(self) -> RpcError;
}

impl IntoRpcError for RpcError {
    fn into_rpc_error(self) -> RpcError {
        self
    }
}

/// Turns a foreign error into a 500 whose cause goes to the log alone.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// fn load(path: &str) -> Result<String, RpcError> {
///     std::fs::read_to_string(path).internal()
/// }
/// assert_eq!(load("/no/such/file").unwrap_err().message(), "internal error");
/// ```
pub trait Internal<T> {
    /// Maps the error to [`RpcError::internal`].
    ///
    /// # Errors
    /// Whenever `self` is an error.
    fn internal(self) -> Result<T, RpcError>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Internal<T> for Result<T, E> {
    fn internal(self) -> Result<T, RpcError> {
        self.map_err(RpcError::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_by_name_and_number() {
        for code in Code::ALL {
            assert_eq!(Code::from_status(code.status()), Some(code));
            assert_eq!(Code::from_name(code.as_str()), Some(code));
        }
        assert_eq!(Code::from_status(418), None);
    }

    #[test]
    fn the_cause_of_an_internal_error_is_in_the_source_and_nowhere_else() {
        let error = RpcError::internal("password=hunter2");
        assert!(!error.to_string().contains("hunter2"));
        assert!(!error.message().contains("hunter2"));
        assert_eq!(error.source().unwrap().to_string(), "password=hunter2");
    }
}
