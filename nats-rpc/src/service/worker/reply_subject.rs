//! Messages whose reply subject the service rejects.

use async_nats::Message;

use super::Worker;
use crate::route::Kind;

impl Worker<'_> {
    /// Returns `true` if the message is a request whose reply subject is rejected. Such a request is dropped before
    /// its handler runs and before any error is sent there. An event is handled, without the reply subject.
    #[inline]
    pub(super) fn rejects_reply_subject(&self, message: &mut Message) -> bool {
        match &message.reply {
            Some(reply) if !self.endpoint.replies.allows(reply) => self.reject(message),
            _ => false,
        }
    }

    #[cold]
    fn reject(&self, message: &mut Message) -> bool {
        let is_request = self.endpoint.route.entry.route.kind == Kind::Message;
        self.endpoint.counters.rejected_reply_subject(is_request);
        if let Some(reply) = message.reply.take() {
            self.endpoint.replies.report(&reply);
        }
        is_request
    }
}
