//! Guards decide whether a caller may call a handler.

mod require;

use std::any::{TypeId, type_name};
use std::future::Future;
use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::require::{RequireRole, RequireScope};
use crate::error::RpcError;
use crate::extract::BindContext;
use crate::message::Request;
use crate::readiness::Readiness;

/// Decides whether a request reaches its handler; NestJS's `CanActivate`.
///
/// Guards run in written order, before any argument is decoded. Attach a guard with `#[use_guards(…)]` or, for all
/// message handlers of a service, with [`Service::global_guard`](crate::Service::global_guard).
///
/// ```
/// use nats_rpc::prelude::*;
///
/// /// Lets nobody in on the day of the move.
/// struct OpenFrom { unix_seconds: u64 }
///
/// impl Guard for OpenFrom {
///     async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
///         let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).internal()?;
///         if now.as_secs() < self.unix_seconds {
///             return Err(RpcError::unavailable("not open yet"));
///         }
///         Ok(())
///     }
/// }
///
/// #[message_pattern("shop.order")]
/// #[use_guards(OpenFrom { unix_seconds: 1_800_000_000 })]
/// async fn order() {}
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no guard",
    label = "does not implement `Guard`",
    note = "implement `nats_rpc::Guard` for it: one `async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError>`"
)]
pub trait Guard: Send + Sync + 'static {
    /// Accepts the request, or rejects it with an error.
    ///
    /// # Errors
    /// The error to reply with; later guards, arguments and the handler do not run.
    fn can_activate(&self, request: &mut Request) -> impl Future<Output = Result<(), RpcError>> + Send;

    /// Returns the principal type that this guard provides: it [sets](Request::set_principal) a principal of this type.
    ///
    /// With it, a service reports at startup that a handler takes [`Auth<C>`](crate::Auth) and no guard provides
    /// `C`. Default: `None`.
    fn proves(&self) -> Option<TypeId> {
        None
    }

    /// Returns `true` if the guard needs a principal that an earlier guard must have set. Default: `false`.
    fn requires_principal(&self) -> bool {
        false
    }

    /// Returns a check of whether the guard has the data for its decisions. Default: none.
    ///
    /// The service calls this function once, at startup. While the check fails, the service is
    /// [not ready](crate::Status::NotReady).
    fn readiness(&self) -> Option<Readiness> {
        None
    }

    /// Returns the instance for a handler that names the guard by its type. Default: the one that was provided to the
    /// service.
    ///
    /// # Errors
    /// A sentence that names the missing thing and how to provide it; the service does not start then.
    #[doc(hidden)]
    fn provided(cx: &BindContext<'_>) -> Result<Arc<Self>, String>
    where
        Self: Sized,
    {
        let name = type_name::<Self>();
        cx.provided().ok_or_else(|| format!("no `{name}` was provided: add `.guard(…)` to the service"))
    }
}

impl<G: Guard> Guard for Arc<G> {
    fn can_activate(&self, request: &mut Request) -> impl Future<Output = Result<(), RpcError>> + Send {
        G::can_activate(self, request)
    }

    fn proves(&self) -> Option<TypeId> {
        G::proves(self)
    }

    fn requires_principal(&self) -> bool {
        G::requires_principal(self)
    }

    fn readiness(&self) -> Option<Readiness> {
        G::readiness(self)
    }
}

/// A guard with its type erased.
pub(crate) trait DynGuard: Send + Sync {
    fn can_activate_dyn<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), RpcError>>;
}

impl<G: Guard> DynGuard for G {
    fn can_activate_dyn<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), RpcError>> {
        Box::pin(self.can_activate(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;

    impl Guard for Plain {
        async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
            Err(RpcError::forbidden("plain"))
        }
    }

    struct Proves;

    impl Guard for Proves {
        async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
            Ok(())
        }

        fn proves(&self) -> Option<TypeId> {
            Some(TypeId::of::<u8>())
        }

        fn requires_principal(&self) -> bool {
            true
        }
    }

    fn judge(guard: &impl Guard) -> Result<(), RpcError> {
        let mut request = Request::new("a".into(), None, None, std::time::Instant::now());
        futures::executor::block_on(guard.can_activate(&mut request))
    }

    #[test]
    fn a_guard_proves_and_requires_nothing_unless_it_says_so() {
        assert_eq!(Plain.proves(), None);
        assert!(!Plain.requires_principal());
    }

    #[test]
    fn a_shared_guard_is_the_guard() {
        assert_eq!(Arc::new(Proves).proves(), Some(TypeId::of::<u8>()));
        assert!(Arc::new(Proves).requires_principal() && !Arc::new(Plain).requires_principal());
        assert!(judge(&Arc::new(Proves)).is_ok());
        assert_eq!(judge(&Arc::new(Plain)).unwrap_err().message(), "plain");
    }

    #[test]
    fn a_guard_of_unknown_type_judges_all_the_same() {
        let mut request = Request::new("a".into(), None, None, std::time::Instant::now());
        let guards: [Arc<dyn DynGuard>; 2] = [Arc::new(Proves), Arc::new(Plain)];
        let judged = guards.map(|guard| futures::executor::block_on(guard.can_activate_dyn(&mut request)).is_ok());
        assert_eq!(judged, [true, false]);
    }
}
