//! Watches the buckets that decide trust without a consumer on the server.
//!
//! nats-server allows 1,000 consumers per stream by default, so a consumer for each process ends at 1,000 processes.
//! Instead, a process subscribes to two core subjects: the changes of `auth_rev`, which nats-server republishes, and a
//! beacon that auth publishes every two seconds. Auth signs both.
//!
//! - A change with a valid signature is applied as it arrives. Any other is ignored.
//! - A beacon contains the progress of each bucket. It proves that nothing is missing, or starts a read.
//! - A key ring changes only by a read of its bucket.
//!
//! So a forged message changes nothing and costs the leader nothing; a lost one costs one read.
//!
//! - `hub`: the beacons that a process receives, verified once for all its watchers.
//! - `report`: the content of a beacon, and its form on the wire.
//! - `window`: the changes between two beacons, and the digest that proves them complete.
//! - `ask`: requests a beacon out of turn from auth.
//! - `beacon`: publishes the beacon.
//!
//! The watchers are next to the watched types: `revocation/watch.rs` and `jwks/watch.rs`.

mod ask;
mod beacon;
mod hub;
mod limit;
mod report;
mod window;

use std::time::Duration;

pub(super) use self::ask::ask_for_beacon;
pub use self::beacon::TrustBeacon;
pub(super) use self::hub::{Hub, Refused, subscribed};
pub(super) use self::limit::{ReadLimit, spread};
#[cfg(test)]
pub(super) use self::report::Window;
pub(super) use self::report::{Progress, Report};
pub(super) use self::window::Changes;

/// The interval of beacons.
pub(super) const BEACON_EVERY: Duration = Duration::from_secs(2);
