//! Log lines for connections that end by a panic of async-nats.

use std::panic;
use std::time::Instant;

use crate::log_limit::LogLimit;

/// The directory of async-nats' sources, as the locations of its panics name it.
const ASYNC_NATS: &str = "async-nats-";

/// Replaces the backtrace of such panics by at most one log line per second: a peer can cause one panic with each
/// message that it sends. All other panics are reported as before.
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
