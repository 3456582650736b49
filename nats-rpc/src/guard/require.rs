use super::Guard;
use crate::error::RpcError;
use crate::message::Request;

/// Accepts callers with one role; it needs an earlier guard that provides the principal.
///
/// The service replies 403 to a caller without the role. Roles are compared byte by byte.
///
/// ```
/// use nats_rpc::prelude::*;
/// # struct SessionGuard;
/// # impl Guard for SessionGuard {
/// #     async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> { Ok(()) }
/// # }
///
/// #[message_pattern("users.purge")]
/// #[use_guards(SessionGuard, RequireRole::new("admin"))]
/// async fn purge() {}
/// ```
#[derive(Clone, Debug)]
pub struct RequireRole(String);

impl RequireRole {
    /// Requires `role` among the caller's roles.
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

/// Accepts callers with one scope; it needs an earlier guard that provides the principal.
///
/// The service replies 403 to a caller without the scope. The grant is split at single spaces, and each scope is
/// compared byte by byte: `users:readonly` does not grant `users:read`.
///
/// ```
/// use nats_rpc::prelude::*;
/// # struct SessionGuard;
/// # impl Guard for SessionGuard {
/// #     async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> { Ok(()) }
/// # }
///
/// #[message_pattern("users.list")]
/// #[use_guards(SessionGuard, RequireScope::new("users:read"))]
/// async fn list() {}
/// ```
#[derive(Clone, Debug)]
pub struct RequireScope(String);

impl RequireScope {
    /// Requires `scope` among the scopes granted to the caller.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::Code;
    use crate::principal::Principal;

    struct Caller {
        roles: Vec<String>,
        scope: &'static str,
    }

    impl Principal for Caller {
        fn subject(&self) -> &str {
            "u1"
        }

        fn roles(&self) -> &[String] {
            &self.roles
        }

        fn scope(&self) -> &str {
            self.scope
        }
    }

    fn judge(guard: &impl Guard, roles: &[&str], scope: &'static str) -> Option<Code> {
        let mut request = Request::new("a".into(), None, None, std::time::Instant::now());
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        request.set_principal(Arc::new(Caller { roles, scope }));
        futures::executor::block_on(guard.can_activate(&mut request)).err().map(|error| error.code())
    }

    #[test]
    fn a_role_is_one_of_the_callers_byte_by_byte() {
        let admin = RequireRole::new("admin");
        assert_eq!(judge(&admin, &["user", "admin"], ""), None);
        for roles in [&[][..], &["user"], &["Admin"], &["administrator"], &["admin "], &[""]] {
            assert_eq!(judge(&admin, roles, "admin"), Some(Code::PermissionDenied), "{roles:?}");
        }
    }

    #[test]
    fn a_scope_is_one_word_of_the_grant_byte_by_byte() {
        let read = RequireScope::new("users:read");
        assert_eq!(judge(&read, &[], "users:read"), None);
        assert_eq!(judge(&read, &[], "users:write users:read"), None);
        for scope in ["", "users:readonly", "users", "Users:read", "users:write", "users:write\tusers:read"] {
            assert_eq!(judge(&read, &["users:read"], scope), Some(Code::PermissionDenied), "{scope:?}");
        }
        for scope in ["", " ", "a  b"] {
            assert_eq!(judge(&RequireScope::new(""), &[], scope), Some(Code::PermissionDenied), "{scope:?}");
        }
    }

    #[test]
    fn nobody_known_has_no_role_and_no_scope_and_a_start_is_told_so() {
        let mut request = Request::new("a".into(), None, None, std::time::Instant::now());
        let role = futures::executor::block_on(RequireRole::new("a").can_activate(&mut request));
        let scope = futures::executor::block_on(RequireScope::new("a").can_activate(&mut request));
        for refused in [role, scope] {
            assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
        }
        assert!(RequireRole::new("a").requires_principal() && RequireScope::new("a").requires_principal());
    }
}
