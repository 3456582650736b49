//! Messages that reach a handler but were not sent to it.

use async_nats::Message;
use async_nats::header::NATS_SEQUENCE;

use super::Worker;
use crate::metrics::UnexpectedMessage;

impl Worker<'_> {
    /// Returns `true` if a message was not sent to this handler. The message is then counted, and the caller drops it.
    pub(super) fn is_unexpected(&self, message: &Message) -> bool {
        let (endpoint, subject) = (self.endpoint, message.subject.as_str());
        let pattern = &endpoint.route.entry.pattern;
        let reason = if !pattern.matches(subject) {
            // A JetStream push consumer delivers to any literal subject, regardless of the publisher's permissions.
            // Such a message keeps the subject that it was stored under.
            tracing::warn!(subject, pattern = pattern.subject(), "dropped a message that was not sent to this handler");
            UnexpectedMessage::OtherSubject
        } else if !endpoint.republished && is_forwarded(message) {
            tracing::warn!(
                subject,
                "dropped a message that a stream forwards; `Service::accept_republished` is for events"
            );
            UnexpectedMessage::Republished
        } else {
            return false;
        };
        endpoint.counters.unexpected(reason);
        true
    }
}

/// Returns `true` if nats-server forwards the message from a stream: republished, or as the reply to a direct get.
///
/// Both arrive at the exact subject of the handler, to which their sender may be forbidden to publish. Only the
/// headers that nats-server adds identify them; a consumer adds none. The first of them is `Nats-Stream`, which a
/// publisher can hide: nats-server removes two bytes from the publisher's headers, and without a line end there the
/// next line belongs to the last value. The check therefore uses a later header of the server.
fn is_forwarded(message: &Message) -> bool {
    message.headers.as_ref().is_some_and(|headers| headers.get(NATS_SEQUENCE).is_some())
}
