//! Who calls, as proved by a guard.

use std::any::Any;

/// What a guard proved about the caller; claims types implement it.
///
/// [`RequireRole`](crate::RequireRole) and [`RequireScope`](crate::RequireScope) read it, and
/// [`Auth<C>`](crate::Auth) hands the concrete type to the handler. Maps and free-form JSON do not
/// implement it: claims that matter have a field and a type.
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
    /// The caller's id; a token's `sub`.
    fn subject(&self) -> &str;

    /// The caller's roles. Default: none.
    fn roles(&self) -> &[String] {
        &[]
    }

    /// The scopes granted, separated by one space each (RFC 6749, section 3.3). Default: none.
    fn scope(&self) -> &str {
        ""
    }
}
