//! Errors of handlers: a code, a message for the caller, and a private cause.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::decode::unwritable;

/// The kind of an error: named as in gRPC, numbered as in HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 400: the caller's message is invalid.
    InvalidArgument,
    /// 401: the request does not prove the identity of the caller.
    Unauthenticated,
    /// 403: the caller is known and lacks the permission.
    PermissionDenied,
    /// 404: the requested object does not exist.
    NotFound,
    /// 409: the change conflicts with another one.
    Conflict,
    /// 413: a message is larger than nats-server or the handler accepts.
    PayloadTooLarge,
    /// 429: the caller sends too many requests.
    ResourceExhausted,
    /// 500: a fault of the service.
    Internal,
    /// 503: the service cannot reply now; the caller may retry.
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

    /// Returns the number that the header `Nats-Service-Error-Code` carries.
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

    /// Returns the name that the field `code` of the body carries, such as `NOT_FOUND`.
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

    /// Returns the code of a status number; `None` if no code has this number.
    pub fn from_status(status: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.status() == status)
    }

    /// Returns the code of a name such as `NOT_FOUND`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error reply: a [`Code`], a message for the caller, and a cause that only the service logs.
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
    /// Creates an error of `code`. The caller reads `message`, so it should name the problem and contain no secret.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { code, message: message.into(), details: None, source: None, body: None }))
    }

    /// Creates a 400: the caller's message is invalid.
    pub fn invalid_argument(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// Creates a 401: the request does not prove the identity of the caller.
    pub fn unauthenticated(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unauthenticated, message)
    }

    /// Creates a 403: the caller is known and lacks the permission.
    pub fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Creates a 404: the requested object does not exist.
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// Creates a 409: the change conflicts with another one.
    pub fn conflict(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Conflict, message)
    }

    /// Creates a 413: a message is larger than nats-server or the handler accepts.
    pub fn payload_too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::PayloadTooLarge, message)
    }

    /// Creates a 429: the caller sends too many requests.
    pub fn resource_exhausted(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// Creates a 503: the service cannot reply now; the caller may retry.
    pub fn unavailable(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Creates a 504: the deadline passed.
    pub fn deadline_exceeded(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::DeadlineExceeded, message)
    }

    /// Creates a 500: a fault of the service. The caller reads "internal error"; the service logs `source`.
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Code::Internal, "internal error").with_source(source)
    }

    /// Adds `details`, any JSON, for callers that need more than the code.
    ///
    /// Details that cannot be serialised are omitted and logged.
    #[must_use]
    pub fn with_details(mut self, details: impl Serialize) -> Self {
        self.0.details = to_raw_value(&details)
            .inspect_err(|error| tracing::error!(error = unwritable(error), "error details left out: they are no JSON"))
            .ok();
        self
    }

    /// Adds the cause, which only the log contains.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Replies with exactly this JSON instead of `{code, message, details}`.
    ///
    /// Use it in a service that must look to its callers exactly like the one that it replaces. The headers still
    /// carry the code. A body that cannot be serialised is omitted and logged.
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

    /// Returns the code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Returns the message for the caller.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the details for the caller, as JSON.
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

/// Converts an application's own error into an error reply; derive it with [`macro@crate::IntoRpcError`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be answered to a caller",
    label = "not an `RpcError`, and nothing says which code it has",
    note = "derive `IntoRpcError` on it, or call `.internal()` on the `Result` to answer 500 and log the cause"
)]
pub trait IntoRpcError {
    /// Returns the error to reply with.
    fn into_rpc_error(self) -> RpcError;
}

impl IntoRpcError for RpcError {
    fn into_rpc_error(self) -> RpcError {
        self
    }
}

/// Converts a foreign error into a 500 whose cause only the log contains.
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
    /// If `self` is an error.
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
