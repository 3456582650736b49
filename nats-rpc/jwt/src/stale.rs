//! A guard that fails open: it accepts tokens while the revocation list is stale.

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use nats_rpc::{BindContext, Guard, Principal, Readiness, Request, RpcError};
use serde::de::DeserializeOwned;

use super::revocation::Stale;
use super::{JwtGuard, UserClaims};

/// The service's [`JwtGuard`], for a handler that accepts tokens while the revocation list is stale.
///
/// Name it instead of `JwtGuard`, and provide the `JwtGuard` as usual. If the revocation list is older than 30 s,
/// `JwtGuard` replies 503; this guard accepts the token until it expires. It rejects known revoked tokens in any case.
/// Use it for handlers that must stay available and do little harm in the wrong hands.
///
/// It has no effect if [`Service::global_guard`](nats_rpc::Service::global_guard) puts a `JwtGuard` in front of it.
///
/// ```
/// use nats_rpc::prelude::*;
/// use nats_rpc_jwt::prelude::*;
/// use nats_rpc_jwt::FailOpenJwtGuard;
///
/// #[message_pattern("menu.today")]
/// #[use_guards(FailOpenJwtGuard)]
/// async fn menu() -> &'static str { "soup" }
///
/// let service = Service::new("canteen", "1.0.0").handlers(handlers![menu]).guard(JwtGuard::from_env);
/// ```
pub struct FailOpenJwtGuard<C = UserClaims>(JwtGuard<C>);

impl<C: Principal + DeserializeOwned> Guard for FailOpenJwtGuard<C> {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        self.0.admit(request, Stale::Accept).await
    }

    fn proves(&self) -> Option<TypeId> {
        self.0.proves()
    }

    fn readiness(&self) -> Option<Readiness> {
        self.0.readiness()
    }

    fn provided(cx: &BindContext<'_>) -> Result<Arc<Self>, String> {
        let guard = JwtGuard::provided(cx)?;
        Ok(Arc::new(Self(JwtGuard::clone(&guard))))
    }
}

impl<C> fmt::Debug for FailOpenJwtGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailOpenJwtGuard").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::executor::block_on;
    use nats_rpc::Code;

    use super::super::testing::{claims, config, request, token};
    use super::super::{DenyList, Revocations, Target, Terms};
    use super::*;

    #[test]
    fn while_nobody_can_tell_what_is_revoked_a_good_token_is_taken_and_no_other() {
        let list = Arc::new(DenyList::new(Duration::from_secs(30)));
        let strict = JwtGuard::<UserClaims>::new(config().revocations(Revocations::new(list.clone()))).unwrap();
        let lenient = FailOpenJwtGuard(strict.clone());
        let good = token(&claims());
        let ask = |guard: &dyn Fn(&mut Request) -> Result<(), RpcError>, token: &str| {
            let mut request = request("menu.today", &[("authorization", &format!("Bearer {token}"))], "{}");
            guard(&mut request).map_err(|error| error.code())?;
            Ok(request.principal().unwrap().subject().to_owned())
        };
        let strictly = |request: &mut Request| block_on(strict.can_activate(request));
        let leniently = |request: &mut Request| block_on(lenient.can_activate(request));
        assert_eq!(ask(&strictly, &good), Err(Code::Unavailable));
        assert_eq!(ask(&leniently, &good), Ok("u1".to_owned()));
        assert_eq!(ask(&leniently, &(good.clone() + "A")), Err(Code::Unauthenticated));
        list.put(Target::session("s1").unwrap(), Terms { epoch: None, until: Some(u64::MAX) });
        assert_eq!(ask(&leniently, &good), Err(Code::Unauthenticated));
        assert_eq!(lenient.proves(), strict.proves());
    }
}
