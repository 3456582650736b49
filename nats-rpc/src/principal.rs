//! Principals: callers as a guard has identified them.

use std::any::Any;

/// The caller as a guard has identified it; claims types implement it.
///
/// [`RequireRole`](crate::RequireRole) and [`RequireScope`](crate::RequireScope) read it, and [`Auth<C>`](crate::Auth)
/// passes the concrete type to the handler. Maps and free-form JSON do not implement it: important claims need a typed
/// field.
///
/// ```
/// use nats_rpc::Principal;
///
/// #[derive(serde::Deserialize)]
/// struct Machine { sub: String, scope: String }
///
/// impl Principal for Machine {
///     fn subject(&self) -> &str { &self.sub }
///     fn scope(&self) -> &str { &self.scope }
/// }
/// ```
pub trait Principal: Any + Send + Sync {
    /// Returns the caller's id: the claim `sub` of a token.
    fn subject(&self) -> &str;

    /// Returns the caller's roles. Default: none.
    fn roles(&self) -> &[String] {
        &[]
    }

    /// Returns the granted scopes, separated by one space each (RFC 6749, section 3.3). Default: none.
    fn scope(&self) -> &str {
        ""
    }
}
