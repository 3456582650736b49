//! Requests as guards and extractors see them, independent of the wire format.

mod preface;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub(crate) use self::preface::Preface;
use crate::principal::Principal;
use crate::subject::{Parameter, Subject};
use crate::validity::{Both, Validity};

/// The headers of a message.
///
/// NATS preserves the case of names and compares them exactly. [`Headers::get`] ignores the case, because callers in
/// different languages rarely use the same one.
///
/// ```
/// use nats_rpc::Headers;
///
/// let mut headers = Headers::new();
/// headers.insert("X-Request-Id", "r1")?;
/// assert_eq!(headers.get("x-request-id"), Some("r1"));
/// assert!(headers.insert("bad name", "v").is_err());
/// # Ok::<_, nats_rpc::HeaderError>(())
/// ```
#[derive(Clone, Default)]
pub struct Headers(async_nats::HeaderMap);

impl Headers {
    /// Creates an empty set of headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the first value of `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// Returns all values of `name`, in any case.
    pub fn get_all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        get_all(&self.0, name)
    }

    /// Returns every name with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| (name, value.as_str()))
        })
    }

    /// Sets `name`, in exactly this case, to `value` alone.
    ///
    /// # Errors
    /// [`HeaderError`] if the name is empty or contains anything but visible ASCII without `:`, or if the value
    /// contains anything but printable ASCII and tabs. A line break would begin another header. Some clients drop all
    /// headers of a message for one value that is not ASCII, so encode such a value, for example by percent-encoding.
    pub fn insert(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        let refused = || HeaderError { name: name.to_owned() };
        if name.is_empty() || !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
            return Err(refused());
        }
        let parsed: async_nats::HeaderName = name.parse().map_err(|_| refused())?;
        let value: async_nats::HeaderValue = value.parse().map_err(|_| refused())?;
        self.0.insert(parsed, value);
        Ok(())
    }

    /// Returns `true` if there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_nats(self) -> async_nats::HeaderMap {
        self.0
    }

    pub(crate) fn received(headers: async_nats::HeaderMap) -> Self {
        Self(headers)
    }
}

impl fmt::Debug for Headers {
    /// Prints names alone: a value may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// A header that NATS cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name:?} cannot be sent: names are visible ASCII without `:`, values are printable ASCII")]
pub struct HeaderError {
    /// The name of the header. Its value is omitted because it may be a secret.
    pub name: String,
}

/// Returns `true` if `header` is `name`, in any case. Nearly all headers have the same case, and a comparison that
/// ignores it costs ten times as much.
#[inline(always)]
pub(crate) fn is_named(header: &str, name: &str) -> bool {
    header == name || header.eq_ignore_ascii_case(name)
}

/// Returns all values of `name`, in any case.
pub(crate) fn get_all<'h, 'n>(
    headers: &'h async_nats::HeaderMap,
    name: &'n str,
) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
    headers
        .iter()
        .filter(move |(known, _)| is_named(known.as_ref(), name))
        .flat_map(|(_, values)| values.iter().map(async_nats::HeaderValue::as_str))
}

/// A request or event as guards and extractors process it.
///
/// Guards read it and may set the [principal](Self::set_principal). Extractors take the handler's arguments from it.
/// The envelope of a NestJS message is already removed: [`data`](Self::data) is the payload in every wire format.
pub struct Request {
    pub(crate) subject: async_nats::Subject,
    pub(crate) headers: Option<async_nats::HeaderMap>,
    pub(crate) data: Option<Bytes>,
    pub(crate) deadline: Instant,
    principal: Option<Arc<dyn Principal>>,
    validity: Option<Arc<dyn Validity>>,
}

impl Request {
    pub(crate) fn new(
        subject: async_nats::Subject,
        headers: Option<async_nats::HeaderMap>,
        data: Option<Bytes>,
        deadline: Instant,
    ) -> Self {
        Self { subject, headers, data, deadline, principal: None, validity: None }
    }

    /// Returns the subject to which the message was published.
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// Returns the first value of header `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// Returns all values of header `name`, in any case; a guard must not overlook a second one.
    pub fn header_values<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        self.headers.iter().flat_map(move |headers| get_all(headers, name))
    }

    /// Returns the payload's JSON; `None` if the message has none.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Replaces the received payload.
    pub fn set_data(&mut self, data: impl Into<Bytes>) {
        self.data = Some(data.into());
    }

    /// Returns the instant at which the caller stops waiting; the service cancels the handler then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Returns the principal, if a guard has set one.
    pub fn principal(&self) -> Option<&Arc<dyn Principal>> {
        self.principal.as_ref()
    }

    /// Sets the principal; a guard calls this after it has verified the caller's identity.
    pub fn set_principal(&mut self, principal: Arc<dyn Principal>) {
        self.principal = Some(principal);
    }

    /// Adds a condition for how long the guard's proof about the caller holds; the guard that verified it calls this.
    ///
    /// A handler's stream ends as soon as one of the added conditions no longer holds.
    pub fn add_validity(&mut self, validity: Arc<dyn Validity>) {
        self.validity = Some(match self.validity.take() {
            None => validity,
            Some(earlier) => Arc::new(Both(earlier, validity)),
        });
    }

    /// Removes and returns the validity of the proof about the caller; for the macros.
    #[doc(hidden)]
    pub fn take_validity(&mut self) -> Option<Arc<dyn Validity>> {
        self.validity.take()
    }

    pub(crate) fn owned_subject(&self) -> Subject {
        Subject::received(self.subject.clone())
    }

    /// Returns the token of the subject that `parameter` names.
    pub(crate) fn param(&self, parameter: &Parameter) -> Option<&str> {
        self.subject().split('.').nth(parameter.token)
    }
}

impl fmt::Debug for Request {
    /// Omits headers and payload: they may contain a token or a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("subject", &self.subject())
            .field("data_bytes", &self.data.as_ref().map(Bytes::len))
            .field("authenticated", &self.principal.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod properties;
