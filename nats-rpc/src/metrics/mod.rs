//! What is measured, by name, and where it goes.
//!
//! With feature `metrics` it goes to the recorder of the `metrics` facade that the program installed before
//! the service started; without, nowhere, at no cost. `docs/observability.md` has a row for each name.

#[cfg(feature = "metrics")]
mod facade;
#[cfg(not(feature = "metrics"))]
mod nowhere;

/// The reason why a message that reached a handler was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnexpectedMessage {
    /// Its subject does not match the handler's pattern.
    OtherSubject,
    /// A stream forwards it.
    Republished,
}

#[cfg(feature = "metrics")]
impl UnexpectedMessage {
    const ALL: [Self; 2] = [Self::OtherSubject, Self::Republished];

    /// The value of the label `reason`.
    const fn label(self) -> &'static str {
        match self {
            Self::OtherSubject => "other_subject",
            Self::Republished => "republished",
        }
    }
}

#[cfg(feature = "metrics")]
pub(crate) use self::facade::{
    RouteMetrics, call_finished, connection_is_up, connection_lost, discovery_rejected, message_unreadable,
    messages_dropped,
};
#[cfg(not(feature = "metrics"))]
pub(crate) use self::nowhere::{
    RouteMetrics, call_finished, connection_is_up, connection_lost, discovery_rejected, message_unreadable,
    messages_dropped,
};
