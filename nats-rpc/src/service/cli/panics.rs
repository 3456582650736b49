//! Log lines for connections that async-nats ends by a panic.

use std::panic;
use std::time::Instant;

use crate::log_limit::LogLimit;

/// The folder of async-nats' sources, as the places of its panics name it.
const ASYNC_NATS: &str = "async-nats-";

/// Writes a line a second at most in place of a backtrace for each such panic: a peer can cause one with each message
/// that it sends. All other panics are told as before.
pub(super) fn log_those_of_async_nats() {
    let told = panic::take_hook();
    let limit = LogLimit::default();
    panic::set_hook(Box::new(move |panic| match panic.location() {
        Some(place) if place.file().contains(ASYNC_NATS) => {
            if limit.note(Instant::now()).is_some() {
                tracing::error!(%place, "async-nats panicked; its connection is replaced");
            }
        }
        _ => told(panic),
    }));
}
