//! A request as guards and extractors see it, whatever dialect it came in.

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
/// NATS keeps the spelling of names and compares them exactly; [`Headers::get`] does not mind the
/// case, because callers in several languages rarely agree on it.
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
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of `name` in any spelling.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// All values of `name`, in all its spellings.
    pub fn get_all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        get_all(&self.0, name)
    }

    /// Every name with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values.iter().map(move |value| (name, value.as_str()))
        })
    }

    /// Sets `name`, spelled like this, to `value` alone.
    ///
    /// # Errors
    /// [`HeaderError`] if the name is empty or holds anything but visible ASCII without `:`, or if the
    /// value holds anything but printable ASCII and tabs. A line break would begin another header, and clients exist
    /// that drop all headers of a message for one value that is not ASCII: encode such a value, by percent-encoding
    /// for example.
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

    /// Whether there are none.
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
    /// Names alone: a value may be a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// A header that NATS cannot carry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header {name:?} cannot be sent: names are visible ASCII without `:`, values are printable ASCII")]
pub struct HeaderError {
    /// The header's name; its value may be a secret and is not repeated.
    pub name: String,
}

/// Whether `header` is `name` in any spelling. Nearly all are spelled alike, and to compare without regard to case
/// costs ten times as much.
#[inline(always)]
pub(crate) fn is_named(header: &str, name: &str) -> bool {
    header == name || header.eq_ignore_ascii_case(name)
}

/// All values of `name` in all its spellings.
pub(crate) fn get_all<'h, 'n>(
    headers: &'h async_nats::HeaderMap,
    name: &'n str,
) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
    headers
        .iter()
        .filter(move |(known, _)| is_named(known.as_ref(), name))
        .flat_map(|(_, values)| values.iter().map(async_nats::HeaderValue::as_str))
}

/// One request or event on its way through guards and extractors.
///
/// Guards read it and may write the [principal](Self::set_principal); extractors take what the
/// handler asks for. The envelope of a NestJS message is gone by now: [`data`](Self::data) is the
/// payload in either dialect.
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

    /// The subject that the message was published to.
    pub fn subject(&self) -> &str {
        self.subject.as_str()
    }

    /// The first value of header `name`, in any spelling.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next()
    }

    /// All values of header `name`, in all its spellings; a guard must not overlook a second one.
    pub fn header_values<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h str> + use<'h, 'n> {
        self.headers.iter().flat_map(move |headers| get_all(headers, name))
    }

    /// The payload's JSON; `None` if the message brought none.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// Puts another payload in place of the one received.
    pub fn set_data(&mut self, data: impl Into<Bytes>) {
        self.data = Some(data.into());
    }

    /// When the caller stops waiting; the handler is cancelled then.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Who calls, if a guard proved it.
    pub fn principal(&self) -> Option<&Arc<dyn Principal>> {
        self.principal.as_ref()
    }

    /// Records who calls; the guard that proved it does so.
    pub fn set_principal(&mut self, principal: Arc<dyn Principal>) {
        self.principal = Some(principal);
    }

    /// Records for how long what was proved about the caller holds; the guard that proved it does so.
    ///
    /// A handler's stream ends as soon as one of those that were recorded does not hold any more.
    pub fn add_validity(&mut self, validity: Arc<dyn Validity>) {
        self.validity = Some(match self.validity.take() {
            None => validity,
            Some(earlier) => Arc::new(Both(earlier, validity)),
        });
    }

    /// Takes out for how long what was proved about the caller holds; the macros' tool.
    #[doc(hidden)]
    pub fn take_validity(&mut self) -> Option<Arc<dyn Validity>> {
        self.validity.take()
    }

    pub(crate) fn owned_subject(&self) -> Subject {
        Subject::received(self.subject.clone())
    }

    /// The token of the subject that `parameter` names.
    pub(crate) fn param(&self, parameter: &Parameter) -> Option<&str> {
        self.subject().split('.').nth(parameter.token)
    }
}

impl fmt::Debug for Request {
    /// Leaves out headers and payload: they may hold a token or a password.
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
