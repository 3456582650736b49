//! Imports of attributes that another attribute removes cause no warning.
#![deny(warnings)]

mod handlers {
    use nats_rpc::{RequireScope, message_pattern, use_guards};

    #[message_pattern("guarded")]
    #[use_guards(RequireScope::new("a"))]
    pub(super) async fn guarded() {}
}

mod more_handlers {
    use nats_rpc::{RequireScope, event_pattern, message_pattern, public, use_guards};

    #[use_guards(RequireScope::new("a"))]
    #[message_pattern("guarded.too")]
    pub(super) async fn guarded() {}

    #[message_pattern("open")]
    #[event_pattern("opened")]
    #[public]
    pub(super) async fn open() {}
}

#[test]
fn imports_of_attributes_are_used() {
    use nats_rpc::{RequireScope, message_pattern, use_guards};

    #[message_pattern("inside")]
    #[use_guards(RequireScope::new("a"))]
    async fn inside() {}

    let routes = nats_rpc::handlers![handlers::guarded, more_handlers::guarded, more_handlers::open, inside];
    assert_eq!(routes.len(), 5);
}
