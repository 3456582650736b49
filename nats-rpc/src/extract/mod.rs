//! Handler arguments: what each one takes from a request.

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

/// A handler argument of one's own: one async function of the request.
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
/// Arguments are taken in written order, after the last guard said yes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler's argument",
    label = "no extractor",
    note = "arguments are `Payload<T>`, `State<T>`, `Auth<C>`, `Param<T>`, `Headers`, `Subject`, `Context`, `Option` of one, or your own type with `FromRequest`",
    note = "to take the message's data, write `Payload(value): Payload<{Self}>`"
)]
pub trait FromRequest: Sized + Send {
    /// Takes the argument from `request`.
    ///
    /// # Errors
    /// Whatever the caller is to be answered with; the handler does not run then.
    fn from_request(request: &mut Request) -> impl Future<Output = Result<Self, RpcError>> + Send;
}

/// A handler argument with a half that runs at start-up.
///
/// Every [`FromRequest`] type has it. What must be looked up or checked once (state, the claims type
/// that a guard proves, the name of a parameter) is bound here, so that its absence stops the start
/// and a request pays for no look-up.
pub trait Extract: Sized + Send {
    /// What start-up found and requests use.
    type Bound: Send + Sync + 'static;

    /// The start-up half.
    ///
    /// # Errors
    /// A sentence that says what is missing and how to provide it; the service refuses to start.
    fn bind(cx: &BindContext<'_>) -> Result<Self::Bound, String>;

    /// The half of each request.
    ///
    /// # Errors
    /// Whatever the caller is to be answered with; the handler does not run then.
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

/// What an argument or a guard can see at start-up.
pub struct BindContext<'a> {
    pub(crate) providers: &'a Providers,
    pub(crate) pattern: &'a Pattern,
    /// The claims types that the route's guards prove.
    pub(crate) proved: &'a [TypeId],
}

impl BindContext<'_> {
    /// The value of type `T` that the service [was given](crate::Service::provide), or the guard of that type.
    pub fn provided<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.providers.get()
    }
}
