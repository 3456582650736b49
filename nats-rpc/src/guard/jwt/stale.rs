//! The guard of handlers that would rather take a revoked token than none.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::revocation::Stale;
use super::{JwtGuard, UserClaims};
use crate::error::RpcError;
use crate::extract::BindContext;
use crate::guard::Guard;
use crate::message::Request;
use crate::principal::Principal;

/// A service's [`JwtGuard`], for a handler that goes on while nobody can tell what has been revoked.
///
/// Name it in place of `JwtGuard`, and provide that as always. Where the guard answers 503 as revocations
/// were not heard of for 30 s, this one takes the token, until it expires. What is known to be revoked is
/// refused in any case. For what must work whatever else does not, and does little harm in wrong hands.
///
/// It has no say where [`Service::guard_all`](crate::Service::guard_all) puts a `JwtGuard` in front of it.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc::jwt::AcceptStaleRevocations;
///
/// #[message_pattern("menu.today")]
/// #[use_guards(AcceptStaleRevocations)]
/// async fn menu() -> &'static str { "soup" }
///
/// let service = Service::new("canteen", "1.0.0").handlers(handlers![menu]).guard(JwtGuard::from_env);
/// ```
pub struct AcceptStaleRevocations<C = UserClaims>(JwtGuard<C>);

impl<C: Principal + DeserializeOwned> Guard for AcceptStaleRevocations<C> {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        self.0.admit(request, Stale::Accept).await
    }

    fn proves(&self) -> Option<TypeId> {
        self.0.proves()
    }

    fn provided(cx: &BindContext<'_>) -> Result<Arc<Self>, String> {
        let guard = JwtGuard::provided(cx)?;
        Ok(Arc::new(Self(JwtGuard::clone(&guard))))
    }
}

impl<C> fmt::Debug for AcceptStaleRevocations<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AcceptStaleRevocations").field(&self.0).finish()
    }
}
