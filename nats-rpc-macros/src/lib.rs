//! The attributes of [nats-rpc](https://docs.rs/nats-rpc), which re-exports and documents them with examples.
//!
//! An attribute adds to a function and never replaces it: the function stays as written and can be
//! called in a unit test. Beside it stands a hidden type of the same name, which `handlers![…]` reads,
//! and one `const _` with the function's static routes.
//!
//! # Layout
//! A mistake travels no further than it must, and all of them are reported at once:
//! - `item`: which of our attributes stand on the item, whichever of them was expanded first
//! - `args`, `pattern`, `object`: the grammar inside an attribute's parentheses
//! - `model`: the handler that they make together
//! - `check`: what the attributes and the function's signature may not be
//! - `expand`, `endpoint`: the tokens added
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

/// Answers requests on a NATS subject with an `async fn`.
///
/// The pattern comes first, as a literal:
/// - `"users.{id}.get"`: a subject. `{id}` names a token, `*` is any token, `>` as the last token is
///   any tokens. At most 1,000 bytes, no white space.
/// - `42`: NestJS's number pattern, the subject `42`.
/// - `{"cmd": "sum"}`: NestJS's object pattern, normalised as NestJS does, here to the subject
///   `{"cmd":"sum"}`.
///
/// Options follow it, in any order:
/// - `queue = "name"` or `queue = none`: the queue group. Default: the service's name.
/// - `timeout_ms = 500`: the handler's own limit, in milliseconds. Default: the service's.
/// - `concurrency = 8`: how many requests run at a time. Default: the service's.
/// - `run_to_completion`: the handler goes on after its deadline. Default: it is cancelled.
/// - `crate = "path"`: where the expansion finds `nats_rpc`. Default: `"::nats_rpc"`.
///
/// The function is free and not generic, and owns its arguments. Several pattern attributes on one
/// function make several routes. `#[use_guards]` and `#[public]` may stand above or below.
#[proc_macro_attribute]
pub fn message_pattern(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::MessagePattern, args.into()), item.into()).into()
}

/// Receives the events of a NATS subject with an `async fn`; nobody waits for an answer.
///
/// The pattern and the options are those of [`macro@message_pattern`]. The default queue group is
/// `<service>.<handler>`, so that each handler of an event gets it once per service.
#[proc_macro_attribute]
pub fn event_pattern(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::EventPattern, args.into()), item.into()).into()
}

/// Puts guards before a handler.
///
/// A path is a type, whose instance the service was given: `JwtGuard`. Any other expression is a value
/// that is built once, at start-up: `RequireScope::new("profile:read")`. A constant goes in
/// parentheses: `(OFFICE_HOURS)`.
///
/// Guards run in written order, before any argument is decoded. Without a pattern attribute on the same
/// function this is an error, wherever it stands.
#[proc_macro_attribute]
pub fn use_guards(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::UseGuards, args.into()), item.into()).into()
}

/// Opens a message handler to everybody, in a service whose other handlers are guarded.
///
/// Without it an unguarded message handler beside a guarded one stops the start of the service. Events
/// need no such word.
#[proc_macro_attribute]
pub fn public(args: TokenStream, item: TokenStream) -> TokenStream {
    expand::handler(Written::first(Name::Public, args.into()), item.into()).into()
}

/// Says which code each variant of an error has, so that handlers can return it.
///
/// `#[rpc(not_found)]` on each variant, or on a struct, names one of `invalid_argument`,
/// `unauthenticated`, `permission_denied`, `not_found`, `conflict`, `payload_too_large`,
/// `resource_exhausted`, `internal`, `unavailable` and `deadline_exceeded`. The caller reads the
/// error's `Display`, but for `internal`, whose text stays in the log.
/// - `#[rpc(conflict, message = "taken")]`: the caller reads `taken` instead.
/// - `#[rpc(transparent)]`: the answer is that of the variant's only field.
/// - `#[rpc(crate = "path")]` on the type: where the expansion finds `nats_rpc`.
///
/// The type implements `std::error::Error`. The derive also gives `From<T> for RpcError`, for `?`.
#[proc_macro_derive(IntoRpcError, attributes(rpc))]
pub fn into_rpc_error(input: TokenStream) -> TokenStream {
    into_rpc_error::derive(input.into()).into()
}
