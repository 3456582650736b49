use super::{Connection, Violation};

impl Connection {
    /// Waits for the next thing that the server forbids and that `concerns` the caller.
    ///
    /// nats-server does not answer what it forbids, it only complains: without this, a request that may not
    /// be sent ends by its time limit. Make it before the request, poll it beside.
    pub(crate) fn forbidden<F: Fn(&Violation) -> bool>(&self, concerns: F) -> impl Future<Output = Violation> + use<F> {
        let mut violations = self.violations();
        async move {
            loop {
                // A reader that is late skips what it missed; its request then ends by its time limit.
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
    /// Whether it is about an inbox below `prefix`.
    pub(crate) fn is_of_inbox(&self, prefix: &str) -> bool {
        self.subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'))
    }
}
