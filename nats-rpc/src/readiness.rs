//! Readiness of a guard: whether it can decide about any caller.

use std::fmt;
use std::sync::Arc;

/// Tells whether a guard has what it decides by, such as keys to verify tokens with.
///
/// [`Guard::readiness`](crate::Guard::readiness) returns it at startup. While it says no, the service is
/// [not ready](crate::Status::NotReady), and the guard replies 503 itself.
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
    /// Makes one of a check that is called four times a second and must not block.
    pub fn new(check: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    /// Checks now.
    ///
    /// # Errors
    /// One sentence that says what is missing.
    pub fn check(&self) -> Result<(), String> {
        (self.0)()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.check()).finish()
    }
}
