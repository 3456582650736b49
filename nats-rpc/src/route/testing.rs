//! Shared parts of the tests of this folder: a route to vary, and a guard.

use std::any::TypeId;

use super::{Contract, Kind, Queue, Route};
use crate::error::RpcError;
use crate::guard::Guard;
use crate::message::Request;

/// A handler of messages to `a`, in the queue group of its service, without a guard; it cannot be bound.
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

/// Accepts every caller, and declares that it provides a principal.
pub(super) struct Proves;

impl Guard for Proves {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Ok(())
    }

    fn proves(&self) -> Option<TypeId> {
        Some(TypeId::of::<Self>())
    }
}
