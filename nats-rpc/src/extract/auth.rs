use std::any::{Any, TypeId, type_name};
use std::ops::Deref;
use std::sync::Arc;

use super::{BindContext, Extract, OptionalExtract};
use crate::error::RpcError;
use crate::message::Request;
use crate::principal::Principal;

/// The principal that the handler's guard provided.
///
/// `C` is the claims type of the guard; for a plain `JwtGuard` of nats-rpc-jwt it is `UserClaims`. If none of the
/// handler's guards provides `C`, the service does not start. `Option<Auth<C>>` is `None` if no guard ran, as for a
/// `#[public]` handler.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// struct Caller { id: String }
///
/// impl Principal for Caller {
///     fn subject(&self) -> &str { &self.id }
/// }
/// # struct SessionGuard;
/// # impl Guard for SessionGuard {
/// #     async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> { Ok(()) }
/// # }
///
/// #[message_pattern("whoami")]
/// #[use_guards(SessionGuard)]
/// async fn whoami(me: Auth<Caller>) -> String {
///     me.id.clone()
/// }
/// ```
#[derive(Debug)]
pub struct Auth<C>(pub Arc<C>);

impl<C> Clone for Auth<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<C> Deref for Auth<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Principal> Extract for Auth<C> {
    type Bound = ();

    fn bind(cx: &BindContext<'_>) -> Result<(), String> {
        if cx.proved.contains(&TypeId::of::<C>()) {
            return Ok(());
        }
        let name = type_name::<C>();
        Err(format!("no guard of this handler proves `{name}`: add one to `#[use_guards(…)]`, such as `JwtGuard`"))
    }

    async fn extract((): &(), request: &mut Request) -> Result<Self, RpcError> {
        let claims = request.principal().cloned().and_then(downcast);
        claims.map(Self).ok_or_else(|| RpcError::unauthenticated("unauthenticated"))
    }
}

impl<C: Principal> OptionalExtract for Auth<C> {
    fn bind_optional(_: &BindContext<'_>) -> Result<(), String> {
        Ok(())
    }

    async fn extract_optional(bound: &(), request: &mut Request) -> Result<Option<Self>, RpcError> {
        match request.principal() {
            None => Ok(None),
            Some(_) => Self::extract(bound, request).await.map(Some),
        }
    }
}

fn downcast<C: Principal>(principal: Arc<dyn Principal>) -> Option<Arc<C>> {
    let any: Arc<dyn Any + Send + Sync> = principal;
    any.downcast().ok()
}
