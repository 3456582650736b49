#![deny(warnings)]

use nats_rpc::{
    Auth, Guard, Principal, Request, RequireScope, RpcError, event_pattern, handlers, message_pattern, public,
    use_guards,
};

struct Caller;

impl Principal for Caller {
    fn subject(&self) -> &str {
        "caller"
    }
}

struct Known;

impl Guard for Known {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Ok(())
    }
}

#[message_pattern("below")]
#[use_guards(Known)]
async fn below() {}

#[use_guards(Known)]
#[message_pattern("above")]
async fn above() {}

#[use_guards(Known)]
#[message_pattern("around")]
#[use_guards(RequireScope::new("a"))]
async fn around() {}

#[use_guards(Known)]
#[use_guards(RequireScope::new("a"))]
#[nats_rpc::message_pattern("stacked")]
#[nats_rpc::use_guards(RequireScope::new("b"))]
async fn stacked(caller: Option<Auth<Caller>>) {
    drop(caller);
}

#[cfg_attr(all(), use_guards(Known))]
#[message_pattern("conditional")]
async fn conditional() {}

#[message_pattern("conditional.below")]
#[cfg_attr(all(), use_guards(Known))]
#[cfg_attr(any(), public)]
async fn conditional_below() {}

#[public]
#[message_pattern("open")]
#[event_pattern("opened")]
async fn open() {}

#[test]
fn attributes_stand_in_any_order() {
    let routes = handlers![below, above, around, stacked, conditional, conditional_below, open];
    let guards: Vec<_> = routes.iter().map(|route| (route.pattern, route.guards.join(" "), route.public)).collect();
    let expected = [
        ("below", "Known", false),
        ("above", "Known", false),
        ("around", "Known RequireScope::new(\"a\")", false),
        ("stacked", "Known RequireScope::new(\"a\") RequireScope::new(\"b\")", false),
        ("conditional", "Known", false),
        ("conditional.below", "Known", false),
        ("open", "", true),
        ("opened", "", true),
    ];
    assert_eq!(guards, expected.map(|(pattern, guards, public)| (pattern, guards.to_owned(), public)));
}
