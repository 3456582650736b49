//! Selects which event handler replies when a client sends a *request* to an event subject.

use super::Kind;
use super::check::Entry;

/// Records for each event handler the patterns of those that reply instead of it, and whether its pattern is shared.
///
/// NestJS's client takes the first reply, and NestJS's service sends one however many handlers an event has. A message
/// handler takes precedence over every event handler. A handler of which each queue group has a single member takes
/// precedence over one of which every instance has one.
pub(super) fn settle(entries: &mut [Entry]) {
    let rank = |index: usize, entry: &Entry| (entry.route.kind == Kind::Event, entry.queue.is_none(), index);
    for index in 0..entries.len() {
        let this = &entries[index];
        if this.route.kind == Kind::Message {
            continue;
        }
        let before = entries.iter().enumerate().filter(|(other, entry)| rank(*other, entry) < rank(index, this));
        let before = before.filter(|(_, entry)| entry.pattern.overlaps(&this.pattern));
        let in_its_stead = before.map(|(_, entry)| entry.pattern.clone()).collect();
        let same =
            |entry: &&Entry| entry.route.kind == Kind::Event && entry.pattern.subject() == this.pattern.subject();
        let among_several = entries.iter().filter(same).nth(1).is_some();
        entries[index].in_its_stead = in_its_stead;
        entries[index].among_several = among_several;
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::RouteTable;
    use super::super::testing::PLAIN;
    use super::super::{Queue, Route};
    use super::*;

    const EVENT: Route = Route { pattern: "order.*", kind: Kind::Event, handler: "any", ..PLAIN };
    static EVERY_INSTANCE: Route = Route { pattern: "order.placed", handler: "every", queue: Queue::None, ..EVENT };
    static ANY: Route = EVENT;
    static PLACED: Route = Route { pattern: "order.placed", handler: "placed", ..EVENT };
    static LOST: Route = Route { pattern: "order.lost", handler: "lost", ..EVENT };
    static MESSAGE: Route = Route { pattern: "order.lost", handler: "asked", kind: Kind::Message, ..EVENT };

    /// Returns the handlers that reply to a request to `subject`.
    fn answer(subject: &str) -> Vec<&'static str> {
        let table = RouteTable::new("s", None, &[&EVERY_INSTANCE, &ANY, &PLACED, &LOST, &MESSAGE], false).unwrap();
        let entries = table.entries().iter().filter(|entry| entry.pattern.matches(subject) && entry.answers(subject));
        entries.map(|entry| entry.route.handler).collect()
    }

    #[test]
    fn handlers_of_one_event_know_that_they_are_several() {
        static TWIN: Route = Route { pattern: "order.placed", handler: "twin", ..EVENT };
        let table = RouteTable::new("s", None, &[&ANY, &PLACED, &TWIN, &LOST, &MESSAGE], false).unwrap();
        let several = table.entries().iter().filter(|entry| entry.among_several);
        assert_eq!(several.map(|entry| entry.route.handler).collect::<Vec<_>>(), ["placed", "twin"]);
    }

    #[test]
    fn one_handler_answers_whoever_takes_an_event_for_a_request() {
        assert_eq!(answer("order.placed"), ["any"], "a group's single member, and not each instance");
        assert_eq!(answer("order.other"), ["any"]);
        assert_eq!(answer("order.lost"), ["asked"], "the one that is there to answer");
    }
}
