//! The readiness of the guards of a service.

use std::time::Duration;

use tokio::sync::watch;

use super::Status;
use crate::connection::RoundTripError;
use crate::readiness::Readiness;

/// The interval at which the guards are checked.
const EVERY: Duration = Duration::from_millis(250);

/// The reason that a running service cannot serve requests now.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The service is shutting down, a subscription is being renewed, or no echo came back in time.
    #[error(transparent)]
    Unreachable(#[from] RoundTripError),
    /// A guard lacks data for its decisions, such as keys; the service replies 503.
    #[error("{0}")]
    Dependency(String),
}

/// Checks all guards.
pub(super) fn check(guards: &[Readiness]) -> Result<(), NotReady> {
    guards.iter().try_for_each(Readiness::check).map_err(NotReady::Dependency)
}

/// Updates the status of a running service from its guards. Runs until it is aborted.
pub(super) async fn watch(guards: Vec<Readiness>, status: watch::Sender<Status>) {
    loop {
        note(&guards, &status);
        tokio::time::sleep(EVERY).await;
    }
}

/// Changes the status if the guards' result has changed; a service that is shutting down keeps its status.
pub(super) fn note(guards: &[Readiness], status: &watch::Sender<Status>) {
    let checked = check(guards);
    let next = if checked.is_ok() { Status::Ready } else { Status::NotReady };
    let changed = status.send_if_modified(|status| match *status {
        Status::Ready | Status::NotReady => std::mem::replace(status, next) != next,
        Status::Stopping | Status::Stopped => false,
    });
    match checked {
        Err(reason) if changed => tracing::warn!(%reason, "service not ready: guards reply 503"),
        Ok(()) if changed => tracing::info!("service ready again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_service_is_ready_while_every_guard_is() {
        let flags = [true, true].map(|ready| Arc::new(AtomicBool::new(ready)));
        let guards = flags.clone().map(|flag| {
            Readiness::new(move || flag.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "no keys".to_owned()))
        });
        let status = watch::Sender::new(Status::Ready);
        let mut told = status.subscribe();
        for (first, second) in [(true, true), (false, true), (true, false), (false, false), (true, true)] {
            flags[0].store(first, Ordering::SeqCst);
            flags[1].store(second, Ordering::SeqCst);
            note(&guards, &status);
            let expected = if first && second { Status::Ready } else { Status::NotReady };
            assert_eq!(*told.borrow_and_update(), expected, "{first} {second}");
            note(&guards, &status);
            assert!(!told.has_changed().unwrap(), "it is told once");
        }
        flags[0].store(false, Ordering::SeqCst);
        status.send_replace(Status::Stopping);
        note(&guards, &status);
        assert_eq!(*status.borrow(), Status::Stopping);
    }
}
