//! Lessons, one a file, in this order:
//!
//! 1. `hello`: a handler, a service, a call
//! 2. `state`: what `main` provides, named parameters, errors of one's own
//! 3. `guarded`: tokens, scopes, and what stays public
//! 4. `events`: several handlers for one event
//! 5. `client`: what a call can come back with
//! 6. `streaming`: many answers to one question
//! 7. `testing`: handlers in a test, without a server
//! 8. `attacks`: the attacks that a service should withstand, in a test of one's own
//!
//! Two more serve until they are stopped, and have tests that call them:
//!
//! - [`nestjs_migration`]: a service behind a NestJS gateway, before and after it moved to Rust
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
