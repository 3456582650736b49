//! The route table, and all checks of it at startup.

use std::any::TypeId;
use std::sync::Arc;

use super::bind::{BoundHandler, bind};
use super::{Kind, Queue, Route, stead};
use crate::guard::{DynGuard, Guard};
use crate::providers::Providers;
use crate::readiness::Readiness;
use crate::subject::{Pattern, Subject};

/// The routes of one service with their patterns and queue groups, checked against each other.
#[derive(Debug)]
pub(crate) struct RouteTable {
    entries: Vec<Entry>,
}

/// One route of a [`RouteTable`].
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) route: &'static Route,
    pub(crate) pattern: Pattern,
    pub(crate) queue: Option<String>,
    /// For an event handler: the patterns of the handlers that reply to requests instead of it.
    pub(crate) in_its_stead: Vec<Pattern>,
    /// `true` if it is one of several event handlers of its pattern.
    pub(crate) among_several: bool,
}

impl Entry {
    /// Returns `true` if this handler replies to a request to `subject`, not another one that receives it as well.
    pub(crate) fn answers(&self, subject: &str) -> bool {
        !self.in_its_stead.iter().any(|pattern| pattern.matches(subject))
    }
}

/// A route whose handler has all its dependencies.
#[derive(Debug)]
pub(crate) struct BoundRoute {
    pub(crate) entry: Entry,
    pub(crate) handler: BoundHandler,
    pub(crate) guards: Vec<Arc<dyn DynGuard>>,
    /// The readiness checks of the handler's own guards.
    pub(crate) readiness: Vec<Readiness>,
}

impl RouteTable {
    /// Creates the table of service `name`, whose subjects begin with `prefix`.
    ///
    /// # Errors
    /// One line for each mistake, with its position in the source.
    pub(crate) fn new(
        name: &str,
        prefix: Option<&Subject>,
        routes: &[&'static Route],
        guarded_all: bool,
    ) -> Result<Self, Vec<String>> {
        let mut refusals = Vec::new();
        if routes.is_empty() {
            refusals.push(
                "the service has no handlers. If they are in the package's library, call `discover!()` there: \
                 a binary that never names its library links none of its handlers"
                    .to_owned(),
            );
        }
        let mut entries = Vec::new();
        for route in routes {
            match Pattern::parse(route.pattern) {
                Ok(pattern) => {
                    let pattern = match prefix {
                        Some(prefix) => pattern.prefixed(prefix),
                        None => pattern,
                    };
                    let queue = queue_group(name, route);
                    entries.push(Entry { route, pattern, queue, in_its_stead: Vec::new(), among_several: false });
                }
                Err(error) => refusals.push(format!("{}: {error}", place(route))),
            }
        }
        stead::settle(&mut entries);
        refusals.extend(overlaps(&entries));
        refusals.extend(namesakes(&entries));
        refusals.extend(unguarded(&entries, guarded_all));
        if refusals.is_empty() { Ok(Self { entries }) } else { Err(refusals) }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Binds every handler to the values provided to the service.
    ///
    /// # Errors
    /// One line for each missing dependency, with its position in the source.
    pub(crate) fn bind(self, providers: &Providers, global: &GlobalGuards) -> Result<Vec<BoundRoute>, Vec<String>> {
        let mut bound = Vec::new();
        let mut refusals = Vec::new();
        for entry in self.entries {
            let under_global = entry.route.kind == Kind::Message && !entry.route.public;
            let (guards, proved) = match under_global {
                true => (global.guards.clone(), global.proved.clone()),
                false => (Vec::new(), Vec::new()),
            };
            match bind(entry.route, &entry.pattern, providers, proved) {
                Ok((handler, readiness)) => bound.push(BoundRoute { entry, handler, guards, readiness }),
                Err(missing) => {
                    refusals.extend(missing.into_iter().map(|why| format!("{}: {why}", place(entry.route))));
                }
            }
        }
        if refusals.is_empty() { Ok(bound) } else { Err(refusals) }
    }
}

/// The guards of [`Service::global_guard`](crate::Service::global_guard).
#[derive(Clone, Default)]
pub(crate) struct GlobalGuards {
    guards: Vec<Arc<dyn DynGuard>>,
    proved: Vec<TypeId>,
    pub(crate) readiness: Vec<Readiness>,
}

impl GlobalGuards {
    pub(crate) fn push(&mut self, guard: impl Guard) {
        self.readiness.extend(guard.readiness());
        self.proved.extend(guard.proves());
        self.guards.push(Arc::new(guard));
    }
}

impl std::fmt::Debug for dyn DynGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

fn queue_group(service: &str, route: &Route) -> Option<String> {
    match (route.queue, route.kind) {
        (Queue::None, _) => None,
        (Queue::Named(name), _) => Some(name.to_owned()),
        (Queue::Default, Kind::Message) => Some(service.to_owned()),
        // One group per handler: all handlers of one event receive it, once per service.
        (Queue::Default, Kind::Event) => Some(format!("{service}.{}", route.handler)),
    }
}

/// Finds overlapping patterns in one queue group: nats-server gives a message to a random member, whatever its
/// pattern.
fn overlaps(entries: &[Entry]) -> Vec<String> {
    pairs(entries)
        .filter(|(a, b)| a.queue.is_some() && a.queue == b.queue && a.pattern.overlaps(&b.pattern))
        .map(|(a, b)| {
            format!(
                "{} and {}: \"{}\" and \"{}\" overlap in queue group \"{}\", so each message would reach one of \
                 them at random: give one another `queue = \"…\"`, or `queue = none` to run both",
                place(a.route),
                place(b.route),
                a.pattern,
                b.pattern,
                a.queue.as_deref().unwrap_or_default(),
            )
        })
        .collect()
}

/// Finds event handlers of the same name, which would share a queue group.
fn namesakes(entries: &[Entry]) -> Vec<String> {
    pairs(entries)
        .filter(|(a, b)| {
            let by_default = |entry: &Entry| entry.route.kind == Kind::Event && entry.route.queue == Queue::Default;
            by_default(a) && by_default(b) && a.route.handler == b.route.handler && a.route.module != b.route.module
        })
        .map(|(a, b)| {
            format!(
                "{} and {}: two event handlers named `{}` would share one queue group: rename one, or give it \
                 `queue = \"…\"`",
                place(a.route),
                place(b.route),
                a.route.handler,
            )
        })
        .collect()
}

/// Finds unguarded message handlers. Once one message handler is guarded, an unguarded one counts as an oversight.
fn unguarded(entries: &[Entry], guarded_all: bool) -> Vec<String> {
    let messages = || entries.iter().filter(|entry| entry.route.kind == Kind::Message);
    if guarded_all || !messages().any(|entry| !entry.route.guards.is_empty()) {
        return Vec::new();
    }
    messages()
        .filter(|entry| entry.route.guards.is_empty() && !entry.route.public)
        .map(|entry| {
            format!(
                "{}: handler `{}` has no guard while others of this service have: add `#[use_guards(…)]`, put the \
                 service under `.global_guard(…)`, or say `#[public]`",
                place(entry.route),
                entry.route.handler,
            )
        })
        .collect()
}

fn pairs(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &Entry)> {
    entries.iter().enumerate().flat_map(|(index, a)| entries[index + 1..].iter().map(move |b| (a, b)))
}

fn place(route: &Route) -> String {
    route.location().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PLAIN, Proves};
    use super::*;

    fn leaked<const N: usize>(routes: [Route; N]) -> Vec<&'static Route> {
        routes.into_iter().map(|route| &*Box::leak(Box::new(route))).collect()
    }

    fn refusals<const N: usize>(routes: [Route; N]) -> Vec<String> {
        RouteTable::new("svc", None, &leaked(routes), false).err().unwrap_or_default()
    }

    #[test]
    fn an_empty_table_asks_about_the_library() {
        assert!(refusals([])[0].contains("library"));
    }

    #[test]
    fn overlapping_patterns_in_one_group_are_refused_and_elsewhere_allowed() {
        let star = Route { pattern: "over.*", handler: "star", ..PLAIN };
        let exact = Route { pattern: "over.a", handler: "exact", ..PLAIN };
        assert_eq!(refusals([star, exact]).len(), 1);
        let star = Route { pattern: "over.*", handler: "star", ..PLAIN };
        let exact = Route { pattern: "over.a", handler: "exact", queue: Queue::None, ..PLAIN };
        assert_eq!(refusals([star, exact]), [""; 0]);
        let message = Route { pattern: "x", ..PLAIN };
        let event = Route { pattern: "x", kind: Kind::Event, queue: Queue::Named("svc"), ..PLAIN };
        assert_eq!(refusals([message, event]).len(), 1, "message and event in one group");
    }

    #[test]
    fn several_handlers_of_one_event_each_have_their_group() {
        let one = Route { pattern: "user.created", kind: Kind::Event, handler: "mail", ..PLAIN };
        let two = Route { pattern: "user.created", kind: Kind::Event, handler: "index", ..PLAIN };
        assert_eq!(refusals([one, two]), [""; 0]);
        let one = Route { pattern: "user.created", kind: Kind::Event, module: "a", ..PLAIN };
        let two = Route { pattern: "user.deleted", kind: Kind::Event, module: "b", ..PLAIN };
        assert!(refusals([one, two])[0].contains("named `h`"));
    }

    #[test]
    fn an_unguarded_handler_beside_a_guarded_one_must_say_public() {
        let guarded = || Route { guards: &["G"], ..PLAIN };
        let open = Route { pattern: "b", handler: "open", ..PLAIN };
        assert!(refusals([guarded(), open])[0].contains("`open`"));
        let public = Route { pattern: "b", handler: "open", public: true, ..PLAIN };
        assert_eq!(refusals([guarded(), public]), [""; 0]);
        let event = Route { pattern: "b", kind: Kind::Event, ..PLAIN };
        assert_eq!(refusals([guarded(), event]), [""; 0], "events are exempt");
    }

    #[test]
    fn only_default_groups_of_events_from_two_places_are_mixed_up() {
        let one = || Route { pattern: "a", kind: Kind::Event, ..PLAIN };
        let other = || Route { pattern: "b", kind: Kind::Event, module: "n", ..PLAIN };
        assert_eq!(refusals([one(), other()]).len(), 1);
        assert_eq!(refusals([one(), Route { handler: "i", ..other() }]), [""; 0], "another name");
        assert_eq!(refusals([one(), Route { module: "m", ..other() }]), [""; 0], "two patterns of one handler");
        assert_eq!(refusals([one(), Route { queue: Queue::Named("q"), ..other() }]), [""; 0]);
        assert_eq!(refusals([Route { queue: Queue::Named("q"), ..one() }, other()]), [""; 0]);
        let message = |route: Route| Route { kind: Kind::Message, ..route };
        assert_eq!(refusals([message(one()), message(other())]), [""; 0], "messages share one group");
    }

    #[test]
    fn a_refusal_begins_with_the_place_in_the_source() {
        let bad = Route { pattern: "a..b", ..PLAIN };
        assert!(refusals([bad])[0].starts_with("f.rs:1: "));
    }

    struct Says;

    impl crate::route::Handler for Says {
        async fn call(&self, _: crate::Request) -> Result<impl crate::reply::IntoReply + Send, crate::RpcError> {
            Ok("said")
        }
    }

    fn table<const N: usize>(routes: [Route; N]) -> RouteTable {
        RouteTable::new("svc", None, &leaked(routes), true).unwrap()
    }

    #[test]
    fn a_guard_for_all_stands_before_messages_that_are_not_public() {
        let says = |pattern| Route { pattern, bind: |_| Some(BoundHandler::new(Says)), ..PLAIN };
        let judges = Route {
            bind: |binder| {
                binder.built("RequireRole", crate::RequireRole::new("a"))?;
                Some(BoundHandler::new(Says))
            },
            ..says("judges")
        };
        let public = Route { public: true, ..says("public") };
        let event = Route { kind: Kind::Event, ..says("event") };
        let table = table([judges, public, event]);
        assert_eq!(table.entries().len(), 3);
        let mut global = GlobalGuards::default();
        global.push(Proves);
        let bound = table.bind(&Providers::default(), &global).unwrap();
        let guards: Vec<_> = bound.iter().map(|route| (route.entry.route.pattern, route.guards.len())).collect();
        assert_eq!(guards, [("judges", 1), ("public", 0), ("event", 0)]);
    }

    #[test]
    fn what_handlers_miss_is_listed_with_their_places() {
        let misses = |pattern, line| Route {
            pattern,
            line,
            bind: |binder| {
                binder.extractor::<crate::State<u8>>("State(n)");
                None
            },
            ..PLAIN
        };
        let refused = table([misses("a", 3), misses("b", 4)]).bind(&Providers::default(), &GlobalGuards::default());
        let lines = refused.unwrap_err();
        assert!(lines.len() == 2 && lines[0].starts_with("f.rs:3: ") && lines[1].starts_with("f.rs:4: "), "{lines:?}");
    }

    #[test]
    fn every_mistake_is_listed_at_once() {
        let bad = Route { pattern: "a..b", ..PLAIN };
        let twin = || Route { pattern: "same", ..PLAIN };
        assert_eq!(refusals([bad, twin(), twin()]).len(), 2);
    }
}
