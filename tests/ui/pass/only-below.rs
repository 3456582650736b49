//! Attributes that another one takes off are not imported in vain.
#![deny(warnings)]

mod handlers {
    use nats_rpc::{RequireScope, message_pattern, use_guards};

    #[message_pattern("guarded")]
    #[use_guards(RequireScope::new("a"))]
    pub async fn guarded() {}
}

mod more_handlers {
    use nats_rpc::{RequireScope, event_pattern, message_pattern, public, use_guards};

    #[use_guards(RequireScope::new("a"))]
    #[message_pattern("guarded.too")]
    pub async fn guarded() {}

    #[message_pattern("open")]
    #[event_pattern("opened")]
    #[public]
    pub async fn open() {}
}

fn main() {
    use nats_rpc::{RequireScope, message_pattern, use_guards};

    #[message_pattern("inside")]
    #[use_guards(RequireScope::new("a"))]
    async fn inside() {}

    let routes = nats_rpc::handlers![handlers::guarded, more_handlers::guarded, more_handlers::open, inside];
    assert_eq!(routes.len(), 5);
}
