//! Lessons, one per file, in this order:
//!
//! 1. `hello`: a handler, a service, a call
//! 2. `state`: provided values, named parameters, custom errors
//! 3. `guarded`: tokens, scopes, public handlers
//! 4. `events`: several handlers for one event
//! 5. `client`: the possible outcomes of a call
//! 6. `streaming`: many replies to one request
//! 7. `testing`: handlers in a test, without a server
//! 8. `attacks`: attacks that every service should withstand, in a test of your own
//!
//! Two more run until they are stopped, and have tests that call them:
//!
//! - [`nestjs_migration`]: a service behind a NestJS gateway, before and after its migration to Rust
//! - [`interop`]: a NestJS service rewritten, handler for handler
//!
//! All connect to `NATS_URL` (default `nats://127.0.0.1:4222`). A lesson ends by itself:
//! `cargo run -p nats-rpc-examples --example hello`.

#![allow(clippy::print_stdout, reason = "examples speak")]

pub mod interop;
#[path = "nestjs-migration/users.rs"]
pub mod nestjs_migration;

/// The pages of the guide, compiled as tests.
#[cfg(doctest)]
mod guide {
    macro_rules! pages {
        ($($name:ident $page:literal),+ $(,)?) => {
            $(#[doc = include_str!(concat!("../docs/guide/", $page, ".md"))] struct $name;)+
        };
    }

    pages!(
        GettingStarted "getting-started",
        Handlers "handlers",
        State "state",
        GuardsAndJwt "guards-and-jwt",
        Errors "errors",
        Client "client",
        Streams "streams",
        Testing "testing",
        Operations "operations",
        FromNestjs "from-nestjs",
    );
}

/// The examples of the README, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
