//! The service for tests with NestJS's clients: `tests/interop/nest-service`, handler for handler.
//!
//! It has the same patterns, values and errors. Errors that have no code in NestJS are the same byte for byte.

mod errors;
mod events;
mod secure;
mod streams;
mod subjects;
mod values;

use nats_rpc::{Service, WireFormat};

/// Returns the two services that have all its patterns: the open ones, and the two guarded ones.
pub fn services(wire: WireFormat) -> [Service; 2] {
    let routes = [values::routes(), errors::routes(), subjects::routes(), streams::routes(), events::routes()];
    let open = Service::new("interop", "1.0.0")
        .description("Every pattern of the NestJS service")
        .handlers(routes.concat())
        .provide(events::Counts::default());
    let secure = Service::new("interop-secure", "1.0.0").handlers(secure::routes());
    [open, secure].map(|service| service.wire(wire))
}
