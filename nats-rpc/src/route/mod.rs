//! Routes: static records that the attributes create, bound and checked at startup.

mod bind;
mod check;
mod contract;
mod guarded;
mod slot;
mod stead;
#[cfg(test)]
mod testing;

use std::fmt;
use std::future::Future;

pub use self::bind::{Binder, BoundHandler};
#[cfg(feature = "cli")]
pub(crate) use self::check::Entry;
pub(crate) use self::check::{BoundRoute, GlobalGuards, RouteTable};
pub use self::contract::{Contract, Describe, Shape};
pub(crate) use self::slot::HandlerSlot;
use crate::error::RpcError;
use crate::message::Request;
use crate::reply::IntoReply;

/// One pattern of one handler, as its attribute recorded it; a static record.
///
/// [`discover!`](crate::discover) and [`handlers!`](crate::handlers) collect them.
#[derive(Debug)]
pub struct Route {
    /// The pattern, with the names of its parameters.
    pub pattern: &'static str,
    /// Request or event.
    pub kind: Kind,
    /// The package that contains the handler.
    pub package: &'static str,
    /// The handler's name.
    pub handler: &'static str,
    /// The module that contains the handler.
    pub module: &'static str,
    /// The source file.
    pub file: &'static str,
    /// The line of the handler in the file.
    pub line: u32,
    /// Its guards, as written in the attribute.
    pub guards: &'static [&'static str],
    /// `true` if `#[public]` opens it to every caller.
    pub public: bool,
    /// Its queue group.
    pub queue: Queue,
    /// Its own timeout, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The maximum number of its concurrent requests.
    pub concurrency: Option<usize>,
    /// `true` if it continues after its deadline.
    pub run_to_completion: bool,
    #[doc(hidden)]
    pub bind: fn(&mut Binder<'_>) -> Option<BoundHandler>,
    #[doc(hidden)]
    pub contract: fn() -> Contract,
}

impl Route {
    /// Returns `file:line`, which editors and terminals make clickable.
    pub fn location(&self) -> impl fmt::Display {
        fmt::from_fn(|f| write!(f, "{}:{}", self.file, self.line))
    }
}

/// The kind of a handler: with or without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Request and reply: `#[message_pattern]`.
    Message,
    /// Fire and forget: `#[event_pattern]`.
    Event,
}

/// The queue group of a handler: within a group, each message goes to one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// The service's name for messages, and `<service>.<handler>` for events.
    Default,
    /// A group with this name.
    Named(&'static str),
    /// No group: every instance receives every message.
    None,
}

/// A handler with its guards and arguments bound; the macros implement it.
#[doc(hidden)]
pub trait Handler: Send + Sync + Sized + 'static {
    /// Runs the guards in written order, extracts the arguments in written order, and runs the handler.
    fn call(&self, request: Request) -> impl Future<Output = Result<impl IntoReply + Send, RpcError>> + Send;
}

/// The routes of one handler; `handlers![…]` reads them.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    label = "has no pattern",
    note = "put `#[message_pattern(\"…\")]` or `#[event_pattern(\"…\")]` on the function"
)]
pub trait HasRoutes {
    const ROUTES: &'static [Route];
}

/// The item that `inventory` collects: the routes of one handler.
#[doc(hidden)]
pub struct Submitted(pub &'static [Route]);

inventory::collect!(Submitted);

/// Returns the handlers of `package`, ordered by module, name and pattern.
///
/// Inventory's order depends on the linker, and it covers the whole process; this function hides both.
#[doc(hidden)]
pub fn discover(package: &str) -> Vec<&'static Route> {
    let submitted = inventory::iter::<Submitted>.into_iter();
    let mut routes: Vec<_> =
        submitted.flat_map(|Submitted(routes)| *routes).filter(|route| route.package == package).collect();
    routes.sort_by_key(|route| (route.module, route.handler, route.pattern));
    routes
}

/// Returns the handlers of the calling package, for [`Service::handlers`](crate::Service::handlers).
///
/// In a package with a library and a binary, call it in the library: a binary that never names its library links none
/// of its handlers. In tests, prefer [`handlers!`](crate::handlers).
///
/// ```
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("ping")]
/// async fn ping() -> &'static str { "pong" }
///
/// let service = Service::new("pinger", "1.0.0").handlers(discover!());
/// ```
#[macro_export]
macro_rules! discover {
    () => {
        $crate::__private::discover(::core::env!("CARGO_PKG_NAME"))
    };
}

/// Creates an explicit list of handlers, for [`Service::handlers`](crate::Service::handlers).
///
/// ```
/// use nats_rpc::prelude::*;
///
/// mod users {
///     use nats_rpc::prelude::*;
///
///     #[message_pattern("users.count")]
///     pub async fn count() -> u64 { 0 }
/// }
///
/// #[message_pattern("ping")]
/// async fn ping() -> &'static str { "pong" }
///
/// let service = Service::new("demo", "1.0.0").handlers(handlers![ping, users::count]);
/// ```
#[macro_export]
macro_rules! handlers {
    ($($handler:path),* $(,)?) => {
        $crate::__private::routes(&[$(<$handler as $crate::__private::HasRoutes>::ROUTES),*])
    };
}

/// Joins the routes of several handlers into one list.
#[doc(hidden)]
pub fn routes(handlers: &[&'static [Route]]) -> Vec<&'static Route> {
    handlers.iter().copied().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::testing::PLAIN;
    use super::*;

    const fn route(package: &'static str, handler: &'static str, pattern: &'static str) -> Route {
        Route { package, handler, pattern, line: 7, ..PLAIN }
    }

    static TWO: [Route; 2] = [route("here", "b", "2"), route("here", "b", "1")];
    static ONE: [Route; 1] = [route("here", "a", "3")];
    static ELSEWHERE: [Route; 1] = [route("elsewhere", "c", "4")];

    inventory::submit!(Submitted(&TWO));
    inventory::submit!(Submitted(&ELSEWHERE));
    inventory::submit!(Submitted(&ONE));

    fn patterns(routes: &[&Route]) -> Vec<&'static str> {
        routes.iter().map(|route| route.pattern).collect()
    }

    #[test]
    fn a_package_discovers_its_own_handlers_in_the_order_of_their_names() {
        assert_eq!(patterns(&discover("here")), ["3", "1", "2"]);
        assert_eq!(patterns(&discover("elsewhere")), ["4"]);
        assert_eq!(patterns(&discover("nowhere")), [""; 0]);
    }

    #[test]
    fn a_list_of_handlers_holds_every_route_of_each_in_the_order_given() {
        assert_eq!(patterns(&routes(&[&TWO, &ONE])), ["2", "1", "3"]);
    }

    #[test]
    fn a_place_is_one_to_click_on() {
        assert_eq!(ONE[0].location().to_string(), "f.rs:7");
    }
}
