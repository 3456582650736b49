//! Metrics: their names and their recorder.
//!
//! With feature `metrics`, values go to the recorder of the `metrics` facade that the program installed before the
//! service started. Without the feature, metrics are not recorded and cost nothing. `docs/observability.md` describes
//! each name.

#[cfg(feature = "metrics")]
mod facade;
#[cfg(not(feature = "metrics"))]
mod nowhere;

/// The reason why a message that reached a handler was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnexpectedMessage {
    /// The subject of the message does not match the handler's pattern.
    OtherSubject,
    /// A stream forwards the message.
    Republished,
}

#[cfg(feature = "metrics")]
impl UnexpectedMessage {
    const ALL: [Self; 2] = [Self::OtherSubject, Self::Republished];

    /// Returns the value of the label `reason`.
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
