//! Readiness of a guard: whether it can decide about callers.

use std::fmt;
use std::sync::Arc;

/// A check of whether a guard has the data for its decisions, such as keys to verify tokens with.
///
/// [`Guard::readiness`](crate::Guard::readiness) returns it at startup. While the check fails, the service is
/// [not ready](crate::Status::NotReady), and the guard itself replies 503.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicBool, Ordering};
///
/// use nats_rpc::Readiness;
///
/// let loaded = Arc::new(AtomicBool::new(false));
/// let flag = loaded.clone();
/// let readiness = Readiness::new(move || match flag.load(Ordering::Relaxed) {
///     true => Ok(()),
///     false => Err("the list of callers is not loaded".to_owned()),
/// });
/// assert!(readiness.check().is_err());
/// loaded.store(true, Ordering::Relaxed);
/// assert!(readiness.check().is_ok());
/// ```
#[derive(Clone)]
pub struct Readiness(Arc<dyn Fn() -> Result<(), String> + Send + Sync>);

impl Readiness {
    /// Creates one from a check, which is called four times a second and must not block.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Runs the check.
    ///
    /// # Errors
    /// One sentence that names the missing data.
    pub fn check(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.check()).finish()
    }
}
