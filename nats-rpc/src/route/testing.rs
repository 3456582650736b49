//! What the tests of this folder share: a route to vary, and a guard.

use std::any::TypeId;

use super::{Contract, Kind, Queue, Route};
use crate::error::RpcError;
use crate::guard::Guard;
use crate::message::Request;

/// A handler of messages to `a`, in its service's queue group, without a guard, that cannot be bound.
pub(super) const PLAIN: Route = Route {
    pattern: "a",
    kind: Kind::Message,
    package: "p",
    handler: "h",
    module: "m",
    file: "f.rs",
    line: 1,
    guards: &[],
    public: false,
    queue: Queue::Default,
    timeout_ms: None,
    concurrency: None,
    run_to_completion: false,
    bind: |_| None,
    contract: Contract::default,
};

/// Lets everybody pass, and says that it proves who calls.
pub(super) struct Proves;

impl Guard for Proves {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Ok(())
    }

    fn proves(&self) -> Option<TypeId> {
        Some(TypeId::of::<Self>())
    }
}
