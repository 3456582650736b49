use super::{Connection, Violation};

impl Connection {
    /// Waits for the next permission violation that `concerns` accepts.
    ///
    /// nats-server does not reply to a forbidden request; it only reports an error on the connection. Without this
    /// future, such a request ends by its timeout. Create the future before the request, and poll both together.
    pub(crate) fn forbidden<F: Fn(&Violation) -> bool>(&self, concerns: F) -> impl Future<Output = Violation> + use<F> {
        let mut violations = self.violations();
        async move {
            loop {
                // A lagging receiver skips the missed violations; its request then ends by its timeout.
                if let Ok(violation) = violations.recv().await
                    && concerns(&violation)
                {
                    return violation;
                }
            }
        }
    }
}

impl Violation {
    /// Returns `true` if the violation concerns an inbox below `prefix`.
    pub(crate) fn is_of_inbox(&self, prefix: &str) -> bool {
        self.subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}
