use std::sync::Once;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

use super::UnexpectedMessage;
use crate::error::Code;

const REQUESTS: &str = "nats_rpc_requests_total";
const REQUEST_SECONDS: &str = "nats_rpc_request_duration_seconds";
const IN_FLIGHT: &str = "nats_rpc_requests_in_flight";
const SHED: &str = "nats_rpc_requests_shed_total";
const UNEXPECTED: &str = "nats_rpc_messages_unexpected_total";
const REJECTED: &str = "nats_rpc_reply_subjects_rejected_total";
const CALLS: &str = "nats_rpc_calls_total";
const CALL_SECONDS: &str = "nats_rpc_call_duration_seconds";
const UP: &str = "nats_rpc_connection_up";
const LOST: &str = "nats_rpc_connections_lost_total";
const DROPPED: &str = "nats_rpc_messages_dropped_total";
const UNREADABLE: &str = "nats_rpc_messages_unreadable_total";

/// The outcome of a request that succeeded.
pub(crate) const OK: &str = "OK";

/// The metric handles of one handler, created once: a request costs three additions.
pub(crate) struct RouteMetrics {
    /// Counters by outcome: success, then the codes in their order.
    requests: Vec<(&'static str, Counter)>,
    seconds: Histogram,
    in_flight: Gauge,
    shed: Counter,
    /// Counters by reason.
    unexpected: [(UnexpectedMessage, Counter); 2],
    rejected: Counter,
}

impl RouteMetrics {
    pub(crate) fn new(service: &str, handler: &'static str) -> Self {
        describe();
        let outcomes = std::iter::once(OK).chain(Code::ALL.into_iter().map(Code::as_str));
        let labels = || [("service", service.to_owned()), ("handler", handler.to_owned())];
        let requests = |outcome: &'static str| {
            let [service, handler] = labels();
            (outcome, counter!(REQUESTS, &[service, handler, ("code", outcome.to_owned())]))
        };
        let unexpected = |reason: UnexpectedMessage| {
            let [service, handler] = labels();
            (reason, counter!(UNEXPECTED, &[service, handler, ("reason", reason.label().to_owned())]))
        };
        Self {
            requests: outcomes.map(requests).collect(),
            seconds: histogram!(REQUEST_SECONDS, &labels()),
            in_flight: gauge!(IN_FLIGHT, &labels()),
            shed: counter!(SHED, &labels()),
            unexpected: UnexpectedMessage::ALL.map(unexpected),
            rejected: counter!(REJECTED, &labels()),
        }
    }

    pub(crate) fn began(&self) {
        self.in_flight.increment(1.0);
    }

    pub(crate) fn finished(&self, took: Duration, outcome: &'static str) {
        self.in_flight.decrement(1.0);
        self.seconds.record(took);
        if let Some((_, requests)) = self.requests.iter().find(|(known, _)| *known == outcome) {
            requests.increment(1);
        }
    }

    pub(crate) fn shed(&self) {
        self.shed.increment(1);
    }

    pub(crate) fn unexpected(&self, reason: UnexpectedMessage) {
        if let Some((_, unexpected)) = self.unexpected.iter().find(|(known, _)| *known == reason) {
            unexpected.increment(1);
        }
    }

    pub(crate) fn rejected_reply_subject(&self) {
        self.rejected.increment(1);
    }
}

impl std::fmt::Debug for RouteMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteMetrics").finish_non_exhaustive()
    }
}

/// Counts a request on `$SRV` whose reply subject was rejected.
pub(crate) fn discovery_rejected(service: &str) {
    counter!(REJECTED, "service" => service.to_owned(), "handler" => "$SRV").increment(1);
}

pub(crate) fn call_finished(took: Duration, outcome: &'static str) {
    counter!(CALLS, "outcome" => outcome).increment(1);
    histogram!(CALL_SECONDS).record(took);
}

pub(crate) fn connection_is_up(up: bool) {
    gauge!(UP).set(if up { 1.0 } else { 0.0 });
}

pub(crate) fn connection_lost() {
    counter!(LOST).increment(1);
}

pub(crate) fn messages_dropped() {
    counter!(DROPPED).increment(1);
}

pub(crate) fn message_unreadable() {
    counter!(UNREADABLE).increment(1);
}

/// Describes each metric, once.
fn describe() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        use metrics::{describe_counter, describe_gauge, describe_histogram};
        describe_counter!(REQUESTS, Unit::Count, "Requests and events that ended, by their code");
        describe_histogram!(REQUEST_SECONDS, Unit::Seconds, "From a message's arrival to its answer");
        describe_gauge!(IN_FLIGHT, Unit::Count, "Requests that run now");
        describe_counter!(SHED, Unit::Count, "Requests answered 503 because the handler was full");
        describe_counter!(
            UNEXPECTED,
            Unit::Count,
            "Messages dropped because they were not sent to the handler, by the reason"
        );
        describe_counter!(REJECTED, Unit::Count, "Reply subjects that were rejected, as they are not inboxes");
        describe_counter!(CALLS, Unit::Count, "Calls that ended, by their outcome");
        describe_histogram!(CALL_SECONDS, Unit::Seconds, "From a call's start to its last word, retries included");
        describe_gauge!(UP, Unit::Count, "1 while the process is connected to nats-server");
        describe_counter!(LOST, Unit::Count, "Connections to nats-server that broke");
        describe_counter!(UNREADABLE, Unit::Count, "Messages replaced because their headers cannot be read");
        describe_counter!(DROPPED, Unit::Count, "Times that a subscription was full and lost messages");
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const ALL: [&str; 12] = [
        REQUESTS,
        REQUEST_SECONDS,
        IN_FLIGHT,
        SHED,
        UNEXPECTED,
        REJECTED,
        CALLS,
        CALL_SECONDS,
        UP,
        LOST,
        DROPPED,
        UNREADABLE,
    ];

    /// Returns the words of `text` that are metric names of nats-rpc, without the suffixes that an exporter adds to
    /// histograms.
    fn named(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let ours = words.filter(|word| word.starts_with("nats_rpc_"));
        ours.map(|word| ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word))
            .collect()
    }

    #[test]
    fn the_documentation_and_the_dashboard_name_exactly_what_is_measured() {
        let all = BTreeSet::from(ALL);
        assert_eq!(named(include_str!("../../../docs/observability.md")), all);
        assert_eq!(named(include_str!("../../../docs/grafana-dashboard.json")), all);
    }
}
