//! Binding: what a handler needs is found once, at start-up.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use super::slot::{HandlerSlot, SlotOf};
use super::{Handler, Route};
use crate::extract::{BindContext, Extract};
use crate::guard::{DynGuard, Guard};
use crate::providers::Providers;
use crate::subject::Pattern;

/// Collects what one route needs and does not find; the macros' tool.
#[doc(hidden)]
pub struct Binder<'a> {
    providers: &'a Providers,
    pattern: &'a Pattern,
    /// The claims types proved so far, in the order of the guards.
    proved: Vec<TypeId>,
    missing: Vec<String>,
}

impl<'a> Binder<'a> {
    pub(super) fn new(providers: &'a Providers, pattern: &'a Pattern, proved: Vec<TypeId>) -> Self {
        Self { providers, pattern, proved, missing: Vec::new() }
    }

    /// The provided instance of a guard that is named by its type.
    pub fn guard<G: Guard>(&mut self, written: &str) -> Option<Arc<G>> {
        match G::provided(&self.context()) {
            Ok(guard) => self.built(written, guard),
            Err(why) => {
                self.missing.push(format!("guard `{written}`: {why}"));
                None
            }
        }
    }

    /// A guard that the attribute built.
    pub fn built<G: Guard>(&mut self, written: &str, guard: G) -> Option<G> {
        if guard.requires_principal() && self.proved.is_empty() {
            self.missing.push(format!("guard `{written}` judges who calls, and no guard before it proves that"));
            return None;
        }
        self.proved.extend(guard.proves());
        Some(guard)
    }

    /// The start-up half of an argument.
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

/// A handler with everything that it needs, ready to run.
#[doc(hidden)]
pub struct BoundHandler(Box<dyn Endpoint>);

impl BoundHandler {
    /// Erases the type of `handler`.
    pub fn new(handler: impl Handler) -> Self {
        Self(Box::new(handler))
    }

    /// A place for one request at a time; `guards` run before those of the handler.
    pub(crate) fn make_slot<'a>(&'a self, guards: &'a [Arc<dyn DynGuard>]) -> Box<dyn HandlerSlot + 'a> {
        self.0.make_slot(guards)
    }
}

impl fmt::Debug for BoundHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundHandler").finish_non_exhaustive()
    }
}

trait Endpoint: Send + Sync {
    fn make_slot<'a>(&'a self, guards: &'a [Arc<dyn DynGuard>]) -> Box<dyn HandlerSlot + 'a>;
}

impl<H: Handler> Endpoint for H {
    fn make_slot<'a>(&'a self, guards: &'a [Arc<dyn DynGuard>]) -> Box<dyn HandlerSlot + 'a> {
        Box::new(SlotOf::new(move |mut request| async move {
            for guard in guards {
                guard.can_activate_dyn(&mut request).await?;
            }
            self.call(request).await
        }))
    }
}

/// Binds `route`, or says what is missing.
pub(super) fn bind(
    route: &Route,
    pattern: &Pattern,
    providers: &Providers,
    proved: Vec<TypeId>,
) -> Result<BoundHandler, Vec<String>> {
    let mut binder = Binder::new(providers, pattern, proved);
    let bound = (route.bind)(&mut binder);
    match (bound, binder.finish()) {
        (Some(bound), missing) if missing.is_empty() => Ok(bound),
        (_, missing) => Err(missing),
    }
}
