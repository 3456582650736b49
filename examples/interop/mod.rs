//! The service that NestJS's clients are tested against: `tests/interop/nest-service`, handler for handler.
//!
//! Same patterns, same values, same errors, byte for byte where NestJS's have no code.

mod errors;
mod events;
mod secure;
mod streams;
mod subjects;
mod values;

use nats_rpc::{Service, WireFormat};

/// The two services that have all of its patterns: the open ones, and the two behind guards.
pub fn services(wire: WireFormat) -> [Service; 2] {
    let routes = [values::routes(), errors::routes(), subjects::routes(), streams::routes(), events::routes()];
    let open = Service::new("interop", "1.0.0")
        .description("Every pattern of the NestJS service")
        .handlers(routes.concat())
        .provide(events::Counts::default());
    let secure = Service::new("interop-secure", "1.0.0").handlers(secure::routes());
    [open, secure].map(|service| service.wire(wire))
}
