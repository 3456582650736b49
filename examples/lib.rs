//! Lessons, one a file, in this order:
//!
//! 1. `hello`: a handler, a service, a call
//! 2. `state`: what `main` provides, named parameters, errors of one's own
//! 3. `guarded`: tokens, scopes, and what stays public
//! 4. `events`: several handlers for one event
//! 5. `client`: what a call can come back with
//! 6. `streaming`: many answers to one question
//! 7. `testing`: handlers in a test, without a server
//!
//! Each connects to `NATS_URL` (default `nats://127.0.0.1:4222`), does its lesson and ends:
//! `cargo run -p nats-rpc-examples --example hello`.
