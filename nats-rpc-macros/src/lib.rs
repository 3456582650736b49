//! The attributes of [nats-rpc](https://docs.rs/nats-rpc), which re-exports and documents them with examples.
//!
//! An attribute adds items to a function and never replaces it: the function stays as written, and a unit test can
//! call it. The added items are a hidden type of the same name, which `handlers![…]` reads, and one `const _` with the
//! function's static routes.
//!
//! # Layout
//! One mistake causes one error, and all mistakes are reported at once:
//! - `item`: the nats-rpc attributes on the item, whichever of them was expanded first
//! - `args`, `pattern`, `object`: the syntax inside an attribute's parentheses
//! - `model`: the handler that they describe together
//! - `check`: rules for the attributes and the function's signature
//! - `expand`, `endpoint`: the generated tokens
//! - `into_rpc_error`: the derive

mod args;
mod check;
mod contract;
mod endpoint;
mod errors;
mod expand;
mod into_rpc_error;
mod item;
mod model;
mod object;
mod pattern;
mod suggest;
mod text;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

use crate::item::{Name, Written};

/// Replies to requests on a NATS subject with an `async fn`.
///
/// The pattern comes first, as a literal:
/// - `"users.{id}.get"`: a subject. `{id}` names a token, `*` matches any token, `>` as the last token matches one or
///   more tokens. At most 1,000 bytes, no white space.
/// - `42`: NestJS's number pattern, the subject `42`.
/// - `{"cmd": "sum"}`: NestJS's object pattern, normalised as NestJS does, here to the subject
///   `{"cmd":"sum"}`.
///
/// Options follow it, in any order:
/// - `queue = "name"` or `queue = none`: the queue group. Default: the service's name.
/// - `timeout_ms = 500`: the handler's own timeout, in milliseconds. Default: the service's.
/// - `concurrency = 8`: the maximum number of concurrent requests. Default: the service's.
/// - `run_to_completion`: the handler continues after its deadline. Default: it is cancelled.
/// - `crate = "path"`: the path of `nats_rpc` for the expansion. Default: `"::nats_rpc"`.
///
/// The function must be free and not generic, and own its arguments. Several pattern attributes on one function create
/// several routes. `#[use_guards]` and `#[public]` may be above or below.
#[proc_macro_attribute]
pub fn message_pattern(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::MessagePattern, args.into()), item.into()).into()
}

/// Handles the events of a NATS subject with an `async fn`; an event has no reply.
///
/// The pattern and the options are those of [`macro@message_pattern`]. The default queue group is
/// `<service>.<handler>`, so that each handler of an event receives it once per service.
#[proc_macro_attribute]
pub fn event_pattern(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::EventPattern, args.into()), item.into()).into()
}

/// Adds guards to a handler.
///
/// A path is a type, whose instance was provided to the service: `JwtGuard`. Any other expression is a value that is
/// built once, at startup: `RequireScope::new("profile:read")`. Put a constant in parentheses: `(OFFICE_HOURS)`.
///
/// Guards run in written order, before any argument is decoded. The attribute is an error without a pattern attribute
/// on the same function, above or below.
#[proc_macro_attribute]
pub fn use_guards(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::UseGuards, args.into()), item.into()).into()
}

/// Opens a message handler to every caller, in a service whose other handlers are guarded.
///
/// A service does not start if it has guarded message handlers and one without guards that lacks this attribute. Event
/// handlers do not need it.
#[proc_macro_attribute]
pub fn public(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::Public, args.into()), item.into()).into()
}

/// Implements `IntoRpcError` with a code for each variant of an error, so that handlers can return it.
///
/// `#[rpc(not_found)]` on each variant, or on a struct, names one of `invalid_argument`, `unauthenticated`,
/// `permission_denied`, `not_found`, `conflict`, `payload_too_large`, `resource_exhausted`, `internal`, `unavailable`
/// and `deadline_exceeded`. The caller reads the error's `Display`, except for `internal`, whose text only the log
/// contains.
/// - `#[rpc(conflict, message = "taken")]`: the caller reads `taken` instead.
/// - `#[rpc(transparent)]`: the reply is that of the variant's only field.
/// - `#[rpc(crate = "path")]` on the type: the path of `nats_rpc` for the expansion.
///
/// The type implements `std::error::Error`. The derive also gives `From<T> for RpcError`, for `?`.
#[proc_macro_derive(IntoRpcError, attributes(rpc))]
pub fn into_rpc_error(input: TokenStream) -> TokenStream {
    into_rpc_error::derive(input.into()).into()
}
