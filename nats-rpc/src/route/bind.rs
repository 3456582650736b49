//! Binding: the dependencies of a handler are looked up once, at startup.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use super::guarded::guarded;
use super::slot::{HandlerSlot, SlotOf};
use super::{Handler, Route};
use crate::extract::{BindContext, Extract};
use crate::guard::{DynGuard, Guard};
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::subject::Pattern;

/// Collects the missing dependencies of one route; for the macros.
#[doc(hidden)]
pub struct Binder<'a> {
    providers: &'a Providers,
    pattern: &'a Pattern,
    /// The claims types provided so far, in the order of the guards.
    proved: Vec<TypeId>,
    readiness: Vec<Readiness>,
    missing: Vec<String>,
}

impl<'a> Binder<'a> {
    pub(super) fn new(providers: &'a Providers, pattern: &'a Pattern, proved: Vec<TypeId>) -> Self {
        Self { providers, pattern, proved, readiness: Vec::new(), missing: Vec::new() }
    }

    /// Returns the provided instance of a guard that is named by its type.
    pub fn guard<G: Guard>(&mut self, written: &str) -> Option<Arc<G>> {
        match G::provided(&self.context()) {
            Ok(guard) => self.built(written, guard),
            Err(why) => {
                self.missing.push(format!("guard `{written}`: {why}"));
                None
            }
        }
    }

    /// Returns a guard that the attribute built.
    pub fn built<G: Guard>(&mut self, written: &str, guard: G) -> Option<G> {
        if guard.requires_principal() && self.proved.is_empty() {
            self.missing.push(format!("guard `{written}` judges who calls, and no guard before it proves that"));
            return None;
        }
        self.proved.extend(guard.proves());
        self.readiness.extend(guard.readiness());
        Some(guard)
    }

    /// Binds an argument.
    pub fn extractor<E: Extract>(&mut self, written: &str) -> Option<E::Bound> {
        E::bind(&self.context()).map_err(|why| self.missing.push(format!("argument `{written}`: {why}"))).ok()
    }

    fn context(&self) -> BindContext<'_> {
        BindContext { providers: self.providers, pattern: self.pattern, proved: &self.proved }
    }

    pub(super) fn finish(self) -> Vec<String> {
        self.missing
    }
}

/// A handler with all its dependencies, ready to run.
#[doc(hidden)]
pub struct BoundHandler(Box<dyn Endpoint>);

impl BoundHandler {
    /// Erases the type of `handler`.
    pub fn new(handler: impl Handler) -> Self {
        Self(Box::new(handler))
    }

    /// Creates a slot for one request at a time. `guards` run before those of the handler.
    pub(crate) fn make_slot<'a>(&'a self, guards: &'a [Arc<dyn DynGuard>]) -> Box<dyn HandlerSlot + 'a> {
        let own = self.0.make_slot();
        if guards.is_empty() { own } else { guarded(guards, own) }
    }
}

impl fmt::Debug for BoundHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHandler").finish_non_exhaustive()
    }
}

trait Endpoint: Send + Sync {
    fn make_slot<'a>(&'a self) -> Box<dyn HandlerSlot + 'a>;
}

impl<H: Handler> Endpoint for H {
    fn make_slot<'a>(&'a self) -> Box<dyn HandlerSlot + 'a> {
        Box::new(SlotOf::new(move |request| self.call(request)))
    }
}

/// Binds `route` and returns the readiness checks of its guards, or a list of the missing dependencies.
pub(super) fn bind(
    route: &Route,
    pattern: &Pattern,
    providers: &Providers,
    proved: Vec<TypeId>,
) -> Result<(BoundHandler, Vec<Readiness>), Vec<String>> {
    let mut binder = Binder::new(providers, pattern, proved);
    let bound = (route.bind)(&mut binder);
    let readiness = std::mem::take(&mut binder.readiness);
    match (bound, binder.finish()) {
        (Some(bound), missing) if missing.is_empty() => Ok((bound, readiness)),
        (_, missing) => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    use super::super::testing::{PLAIN, Proves};
    use super::*;
    use crate::error::RpcError;
    use crate::extract::State;
    use crate::message::Request;
    use crate::reply::{IntoReply, ReplyKind};

    struct Judges;

    impl Guard for Judges {
        async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
            match request.data() {
                Some(b"1") => Ok(()),
                _ => Err(RpcError::forbidden("not 1")),
            }
        }

        fn requires_principal(&self) -> bool {
            true
        }
    }

    /// Replies with the data, unless it is to wait forever.
    struct Echo;

    impl Handler for Echo {
        async fn call(&self, request: Request) -> Result<impl IntoReply + Send, RpcError> {
            match request.data() {
                Some(b"wait") => std::future::pending().await,
                data => Ok(data.map(<[u8]>::to_vec)),
            }
        }
    }

    fn bind_with<R>(
        providers: &Providers,
        proved: Vec<TypeId>,
        work: impl FnOnce(&mut Binder<'_>) -> R,
    ) -> (R, Vec<String>) {
        let pattern = Pattern::parse("a.{b}").unwrap();
        let mut binder = Binder::new(providers, &pattern, proved);
        (work(&mut binder), binder.finish())
    }

    #[test]
    fn whatever_is_missing_is_said_once_for_each_place() {
        let empty = Providers::default();
        let (found, missing) = bind_with(&empty, Vec::new(), |binder| {
            (binder.guard::<Proves>("Proves").is_some(), binder.extractor::<State<u8>>("State(n)").is_some())
        });
        assert_eq!(found, (false, false));
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].starts_with("guard `Proves`: ") && missing[1].starts_with("argument `State(n)`: "));
    }

    #[test]
    fn what_was_provided_is_found() {
        let mut providers = Providers::default();
        providers.insert(Proves);
        providers.insert(7_u8);
        let (found, missing) = bind_with(&providers, Vec::new(), |binder| {
            (binder.guard::<Proves>("Proves").is_some(), binder.extractor::<State<u8>>("State(n)").is_some())
        });
        assert_eq!((found, missing), ((true, true), Vec::new()));
    }

    #[test]
    fn a_guard_that_judges_who_calls_stands_behind_one_that_proves_it() {
        let providers = Providers::default();
        let (found, missing) = bind_with(&providers, Vec::new(), |binder| binder.built("Judges", Judges).is_some());
        assert!(!found && missing[0].contains("no guard before it proves that"), "{missing:?}");
        let behind = |binder: &mut Binder<'_>| {
            binder.built("Proves", Proves);
            binder.built("Judges", Judges).is_some()
        };
        assert_eq!(bind_with(&providers, Vec::new(), behind), (true, Vec::new()));
        let global = vec![TypeId::of::<Proves>()];
        let (found, missing) = bind_with(&providers, global, |binder| binder.built("Judges", Judges).is_some());
        assert!(found && missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn a_route_is_bound_only_if_nothing_is_missing() {
        let pattern = Pattern::parse("a").unwrap();
        let bound = |how| bind(&Route { bind: how, ..PLAIN }, &pattern, &Providers::default(), Vec::new());
        assert!(bound(|_| Some(BoundHandler::new(Echo))).is_ok());
        let although_bound = bound(|binder| {
            binder.guard::<Proves>("Proves");
            Some(BoundHandler::new(Echo))
        });
        assert_eq!(although_bound.unwrap_err().len(), 1);
    }

    #[test]
    fn a_slot_runs_guards_and_handler_again_and_again_also_after_a_cancel() {
        let handler = BoundHandler::new(Echo);
        let guards: [Arc<dyn DynGuard>; 1] = [Arc::new(Judges)];
        let mut guarded = handler.make_slot(&guards);
        let mut open = handler.make_slot(&[]);
        let ask = |slot: &mut Box<dyn HandlerSlot + '_>, data: &'static str| {
            slot.start(Request::new("a".into(), None, Some(data.into()), Instant::now()));
            let mut out = Vec::new();
            match slot.poll(&mut Context::from_waker(Waker::noop()), &mut out) {
                Poll::Ready(Ok(ReplyKind::Value)) => Some(Ok(String::from_utf8(out).unwrap())),
                Poll::Ready(Err(error)) => Some(Err(error.code())),
                _ => None,
            }
        };
        for _ in 0..2 {
            assert_eq!(ask(&mut guarded, "1"), Some(Ok("[49]".to_owned())));
            assert_eq!(ask(&mut guarded, "2"), Some(Err(crate::Code::PermissionDenied)));
            assert_eq!(ask(&mut open, "2"), Some(Ok("[50]".to_owned())));
            assert_eq!(ask(&mut open, "wait"), None);
            open.cancel();
            let mut out = Vec::new();
            assert!(open.poll(&mut Context::from_waker(Waker::noop()), &mut out).is_pending(), "it is empty");
        }
    }

    #[test]
    fn a_cancelled_handler_is_dropped_at_once() {
        struct Holds(Arc<()>);

        impl Handler for Holds {
            async fn call(&self, _: Request) -> Result<impl IntoReply + Send, RpcError> {
                let _held = self.0.clone();
                std::future::pending::<Result<(), RpcError>>().await
            }
        }

        let held = Arc::new(());
        let handler = BoundHandler::new(Holds(held.clone()));
        let mut slot = handler.make_slot(&[]);
        slot.start(Request::new("a".into(), None, None, Instant::now()));
        assert!(slot.poll(&mut Context::from_waker(Waker::noop()), &mut Vec::new()).is_pending());
        assert_eq!(Arc::strong_count(&held), 3);
        slot.cancel();
        assert_eq!(Arc::strong_count(&held), 2);
    }
}
