//! Tools for KV buckets that async-nats lacks.
//!
//! - [`revision`]: a write that replaces the revision that was read, with a time to live.
//! - [`leader`]: the state of a bucket's stream, as its leader reports it.
//! - [`range`]: reading a bucket from a given revision.

pub mod leader;
pub mod range;
pub mod revision;
