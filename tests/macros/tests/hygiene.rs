//! The macros name everything from the root: without a prelude, under another name of the crate, and
//! among items that have the names of everyday ones.

#![no_implicit_prelude]

// As a dependency renamed in Cargo.toml would be; the old name leads astray.
extern crate core as nats_rpc;
extern crate nats_rpc as renamed;

use ::renamed::{Auth, Guard, IntoRpcError, Payload, Principal, Request, RpcError};
use ::renamed::{discover, event_pattern, handlers, message_pattern, public, use_guards};

/// Names that an expansion could stumble over.
mod hostile {
    #![allow(dead_code)]

    pub(crate) mod core {}
    pub(crate) mod std {}
    pub(crate) mod nats_rpc {}
    pub(crate) mod inventory {}
    pub(crate) struct Option;
    pub(crate) struct Result;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) struct Vec;
    pub(crate) struct String;
    pub(crate) trait Send {}
    pub(crate) trait Sync {}
    pub(crate) trait Future {}
    pub(crate) trait From {}
    pub(crate) trait Into {}
    pub(crate) trait ToString {}
    pub(crate) struct Endpoint;
    pub(crate) struct Route;
    pub(crate) struct Binder;
    pub(crate) struct Handler;
}
#[allow(unused_imports)]
use hostile::*;

struct Caller;

impl Principal for Caller {
    fn subject(&self) -> &str {
        "caller"
    }
}

struct Known;

impl Guard for Known {
    async fn can_activate(&self, _: &mut Request) -> ::core::result::Result<(), RpcError> {
        ::core::result::Result::Ok(())
    }
}

fn known() -> Known {
    Known
}

#[derive(Debug, IntoRpcError)]
#[rpc(crate = "::renamed")]
enum Failed<T: ::core::fmt::Debug + ::core::marker::Send + ::core::marker::Sync + 'static> {
    #[rpc(not_found)]
    Unknown { _id: T },
    #[rpc(conflict, message = "taken")]
    Taken(T),
    #[rpc(internal)]
    Broken,
    #[rpc(transparent)]
    Other(RpcError),
}

impl<T: ::core::fmt::Debug + ::core::marker::Send + ::core::marker::Sync + 'static> ::core::fmt::Display for Failed<T> {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("failed")
    }
}

impl<T: ::core::fmt::Debug + ::core::marker::Send + ::core::marker::Sync + 'static> ::core::error::Error for Failed<T> {}

#[derive(Debug, IntoRpcError)]
#[rpc(unavailable, crate = "renamed")]
struct Closed;

impl ::core::fmt::Display for Closed {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("closed")
    }
}

impl ::core::error::Error for Closed {}

#[message_pattern("plain", crate = "::renamed")]
#[public]
async fn plain() {}

#[use_guards(Known, known())]
#[message_pattern("guarded.{id}", queue = "q", timeout_ms = 5, concurrency = 2, run_to_completion, crate = "::renamed")]
async fn guarded(
    caller: Auth<Caller>,
    Payload(text): Payload<::std::string::String>,
) -> ::core::result::Result<::std::string::String, Failed<u8>> {
    ::core::mem::drop(caller);
    ::core::result::Result::Ok(text)
}

// The names of the expansion's own locals, fields and functions.
#[event_pattern(7, queue = none, crate = "renamed")]
#[event_pattern({"cmd": "seven"}, crate = "renamed")]
async fn bind(reply: Payload<u8>, request: Payload<u8>, binder: Payload<u8>) -> ::core::result::Result<(), Closed> {
    let _ = (reply, request, binder);
    ::core::result::Result::Err(Closed)
}

#[message_pattern("wrap", crate = "renamed")]
async fn wrap() -> &'static str {
    "wrapped"
}

#[message_pattern("type", crate = "renamed")]
async fn r#type() -> u8 {
    0
}

// Names, types and guards that come from elsewhere than the attributes around them.
macro_rules! handler {
    ($name:ident, $guard:expr, $guard_type:ty, $argument:ty, $answer:ty) => {
        #[use_guards($guard, $guard_type)]
        #[message_pattern("made", crate = "renamed")]
        async fn $name(first: $argument, second: Payload<u8>, third: ::core::option::Option<$argument>) -> $answer {
            let _ = (second, third);
            first.0
        }
    };
}
handler!(made, known(), Known, Payload<u16>, u16);

#[::core::prelude::v1::test]
fn every_macro_works_without_a_prelude_and_under_another_name() {
    use ::core::option::Option;
    use ::std::iter::{IntoIterator, Iterator};

    let listed = handlers![plain, guarded, bind, wrap, r#type, made];
    let names: ::std::vec::Vec<_> = listed.iter().map(|route| (route.pattern, route.handler)).collect();
    ::std::assert_eq!(
        names,
        [
            ("plain", "plain"),
            ("guarded.{id}", "guarded"),
            ("7", "bind"),
            (r#"{"cmd":"seven"}"#, "bind"),
            ("wrap", "wrap"),
            ("type", "type"),
            ("made", "made"),
        ]
    );
    let guarded = listed[1];
    ::std::assert_eq!(guarded.guards, ["Known", "known()"]);
    ::std::assert_eq!(guarded.queue, ::renamed::Queue::Named("q"));
    ::std::assert_eq!((guarded.timeout_ms, guarded.concurrency), (Option::Some(5), Option::Some(2)));
    ::std::assert!(guarded.run_to_completion && !guarded.public && listed[0].public);
    ::std::assert_eq!((guarded.package, guarded.module), ("nats-rpc-macros-tests", "hygiene"));

    let found: ::std::vec::Vec<_> = IntoIterator::into_iter(discover!()).map(|route| route.pattern).collect();
    ::std::assert!(listed.iter().all(|route| found.contains(&route.pattern)));
}

#[::core::prelude::v1::test]
fn a_route_stands_at_the_line_of_its_function() {
    #[public]
    #[message_pattern("here", crate = "renamed")]
    async fn here() {}
    ::std::assert_eq!(handlers![here][0].line, ::core::line!() - 1);
}

#[::core::prelude::v1::test]
fn errors_answer_with_their_codes() {
    use ::core::convert::Into;
    use ::renamed::Code;
    use ::std::string::ToString;

    let answer = |failed: Failed<u8>| {
        let error: RpcError = failed.into();
        (error.code(), ToString::to_string(error.message()))
    };
    ::std::assert_eq!(answer(Failed::Unknown { _id: 1 }), (Code::NotFound, ToString::to_string("failed")));
    ::std::assert_eq!(answer(Failed::Taken(1)), (Code::Conflict, ToString::to_string("taken")));
    ::std::assert_eq!(answer(Failed::Broken), (Code::Internal, ToString::to_string("internal error")));
    let other = Failed::Other(RpcError::forbidden("no"));
    ::std::assert_eq!(answer(other), (Code::PermissionDenied, ToString::to_string("no")));
    ::std::assert_eq!(IntoRpcError::into_rpc_error(Closed).code(), Code::Unavailable);
}
