use super::Guard;
use crate::error::RpcError;
use crate::message::Request;

/// Lets callers with one role pass; stands behind a guard that proves who calls.
///
/// Answers 403 to a caller without the role. Roles are compared byte by byte.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("users.purge")]
/// #[use_guards(JwtGuard, RequireRole::new("admin"))]
/// async fn purge() {}
/// ```
#[derive(Clone, Debug)]
pub struct RequireRole(String);

impl RequireRole {
    /// Wants `role` among the caller's roles.
    pub fn new(role: impl Into<String>) -> Self {
        Self(role.into())
    }
}

impl Guard for RequireRole {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        let principal = request.principal().ok_or_else(unauthenticated)?;
        match principal.roles().contains(&self.0) {
            true => Ok(()),
            false => Err(RpcError::forbidden("the caller lacks a role that this needs")),
        }
    }

    fn requires_principal(&self) -> bool {
        true
    }
}

/// Lets callers with one scope pass; stands behind a guard that proves who calls.
///
/// Answers 403 to a caller without the scope. The grant is split at single spaces and each scope is
/// compared byte by byte: `users:readonly` does not grant `users:read`.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("users.list")]
/// #[use_guards(JwtGuard, RequireScope::new("users:read"))]
/// async fn list() {}
/// ```
#[derive(Clone, Debug)]
pub struct RequireScope(String);

impl RequireScope {
    /// Wants `scope` among the scopes granted to the caller.
    pub fn new(scope: impl Into<String>) -> Self {
        Self(scope.into())
    }
}

impl Guard for RequireScope {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        let principal = request.principal().ok_or_else(unauthenticated)?;
        let mut granted = principal.scope().as_bytes().split(|byte| *byte == b' ');
        match granted.any(|granted| !granted.is_empty() && granted == self.0.as_bytes()) {
            true => Ok(()),
            false => Err(RpcError::forbidden("the caller lacks a scope that this needs")),
        }
    }

    fn requires_principal(&self) -> bool {
        true
    }
}

fn unauthenticated() -> RpcError {
    RpcError::unauthenticated("unauthenticated")
}
