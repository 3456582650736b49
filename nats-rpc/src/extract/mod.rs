//! Handler arguments, and how each one is extracted from a request.

mod auth;
mod context;
mod headers;
mod option;
mod param;
mod payload;
mod state;
mod subject;

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;

pub use self::auth::Auth;
pub use self::context::Context;
pub use self::option::OptionalExtract;
pub use self::param::Param;
pub use self::payload::Payload;
pub use self::state::State;
use crate::error::RpcError;
use crate::message::Request;
use crate::providers::Providers;
use crate::subject::Pattern;

/// A custom handler argument: one async function of the request.
///
/// ```
/// use nats_rpc::prelude::*;
///
/// struct Locale(String);
///
/// impl FromRequest for Locale {
///     async fn from_request(request: &mut Request) -> Result<Self, RpcError> {
///         Ok(Self(request.header("accept-language").unwrap_or("en").to_owned()))
///     }
/// }
///
/// #[message_pattern("greet")]
/// async fn greet(Locale(locale): Locale) -> &'static str {
///     if locale.starts_with("de") { "Hallo" } else { "Hello" }
/// }
/// ```
///
/// Arguments are extracted in written order, after all guards have passed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's argument",
    label = "no extractor",
    note = "arguments are `Payload<T>`, `State<T>`, `Auth<C>`, `Param<T>`, `Headers`, `Subject`, `Context`, `Option` of one, or your own type with `FromRequest`",
    note = "to take the message's data, write `Payload(value): Payload<{Self}>`"
)]
pub trait FromRequest: Sized + Send {
    /// Extracts the argument from `request`.
    ///
    /// # Errors
    /// The error to reply with; the handler does not run then.
    fn from_request(request: &mut Request) -> impl Future<Output = Result<Self, RpcError>> + Send;
}

/// A handler argument with a part that runs at startup.
///
/// Every [`FromRequest`] type has it. Bind here everything that is looked up or checked once: state, the claims type
/// that a guard provides, the name of a parameter. If it is missing, the service does not start, and no request pays
/// for a lookup.
pub trait Extract: Sized + Send {
    /// The result of the part at startup; requests use it.
    type Bound: Send + Sync + 'static;

    /// Runs once, at startup.
    ///
    /// # Errors
    /// A sentence that names the missing thing and how to provide it; the service does not start then.
    fn bind(cx: &BindContext<'_>) -> Result<Self::Bound, String>;

    /// Runs for each request.
    ///
    /// # Errors
    /// The error to reply with; the handler does not run then.
    fn extract(bound: &Self::Bound, request: &mut Request) -> impl Future<Output = Result<Self, RpcError>> + Send;
}

#[diagnostic::do_not_recommend]
impl<T: FromRequest> Extract for T {
    type Bound = ();

    fn bind(_: &BindContext<'_>) -> Result<(), String> {
        Ok(())
    }

    fn extract((): &(), request: &mut Request) -> impl Future<Output = Result<Self, RpcError>> + Send {
        T::from_request(request)
    }
}

/// The context that arguments and guards can use at startup.
pub struct BindContext<'a> {
    pub(crate) providers: &'a Providers,
    pub(crate) pattern: &'a Pattern,
    /// The claims types that the route's guards provide.
    pub(crate) proved: &'a [TypeId],
}

impl BindContext<'_> {
    /// Returns the value of type `T` that was [provided](crate::Service::provide) to the service, or the guard of that
    /// type.
    pub fn provided<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.providers.get()
    }
}
