//! Tools for KV buckets that async-nats has none for.
//!
//! - [`revision`]: a write in place of the revision that was read, with a time to live.
//! - [`leader`]: the state of a bucket's stream, by its leader's word.
//! - [`range`]: reading a bucket from a revision on.

pub mod leader;
pub mod range;
pub mod revision;
