//! Service discovery on `$SRV` (ADR-32, revision 6), so that any NATS tool finds the service.

mod response;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_nats::Message;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::response::{EndpointInfo, EndpointStats, Head, InfoResponse, StatsResponse};
use super::Info;
use super::dispatch::Endpoint;
use super::stats::RouteStats;
use crate::connection::{Connection, Live};
use crate::error::RpcError;
use crate::metrics;
use crate::reply_subject::ReplySubjects;
use crate::route::{Contract, Kind};
use crate::wire::{Dialect, error_headers};

/// The first token of the subjects; one of the verbs follows.
const PREFIX: &str = "$SRV";

/// The requests of service discovery.
pub(super) const VERBS: [&str; 3] = [Verb::Ping.word(), Verb::Info.word(), Verb::Stats.word()];

/// The description of a running service.
pub(super) struct Profile {
    info: Info,
    id: String,
    started: String,
    /// The endpoints of each handler, one per shard that runs it. Each handler has at least one.
    handlers: Vec<Vec<Arc<Endpoint>>>,
    names: Vec<String>,
    contracts: Vec<Contract>,
    /// The counters at the time of the last reset.
    baseline: Mutex<Vec<RouteStats>>,
}

#[derive(Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

impl Verb {
    const ALL: [Self; 3] = [Self::Ping, Self::Info, Self::Stats];

    const fn word(self) -> &'static str {
        match self {
            Self::Ping => "PING",
            Self::Info => "INFO",
            Self::Stats => "STATS",
        }
    }
}

impl Profile {
    pub(super) fn new(info: Info, id: String, handlers: Vec<Vec<Arc<Endpoint>>>) -> Self {
        let routes = || handlers.iter().flat_map(|shards| shards.first()).map(|endpoint| endpoint.route.entry.route);
        Self {
            info,
            id,
            // The present time has a year that RFC 3339 can represent.
            started: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            names: endpoint_names(routes().map(|route| route.handler)),
            contracts: routes().map(|route| (route.contract)()).collect(),
            baseline: Mutex::new(Vec::new()),
            handlers,
        }
    }

    pub(super) fn info(&self) -> &Info {
        &self.info
    }

    /// Returns the statistics of each handler since the last reset, in the order of the handlers.
    pub(super) fn stats(&self) -> Vec<RouteStats> {
        let mut stats = self.totals();
        for (total, earlier) in stats.iter_mut().zip(self.lock_baseline().iter()) {
            total.subtract(earlier);
        }
        stats
    }

    pub(super) fn reset(&self) {
        *self.lock_baseline() = self.totals();
    }

    fn totals(&self) -> Vec<RouteStats> {
        let read = |endpoint: &Arc<Endpoint>| endpoint.counters.read(endpoint.route.entry.route.handler);
        let total = |shards: &Vec<Arc<Endpoint>>| {
            shards.iter().map(read).reduce(|mut total, shard| {
                total.add(&shard);
                total
            })
        };
        self.handlers.iter().filter_map(total).collect()
    }

    fn lock_baseline(&self) -> std::sync::MutexGuard<'_, Vec<RouteStats>> {
        self.baseline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoints(&self) -> impl Iterator<Item = EndpointInfo<'_>> {
        let endpoints = self.handlers.iter().flat_map(|shards| shards.first());
        endpoints.zip(&self.names).zip(&self.contracts).map(|((endpoint, name), contract)| {
            let entry = &endpoint.route.entry;
            let route = entry.route;
            let mut metadata = HashMap::from([
                ("handler", format!("{}::{}", route.module, route.handler)),
                ("kind", if route.kind == Kind::Message { "message" } else { "event" }.to_owned()),
                ("version", self.info.version.clone()),
            ]);
            if !route.guards.is_empty() {
                metadata.insert("guards", route.guards.join(", "));
            }
            if route.public {
                metadata.insert("public", "true".to_owned());
            }
            let hashes = [("payload_schema", &contract.payload), ("answer_schema", &contract.answer)];
            metadata.extend(hashes.into_iter().filter_map(|(key, hash)| Some((key, hash.clone()?))));
            EndpointInfo {
                name,
                subject: entry.pattern.subject(),
                queue_group: entry.queue.as_deref().unwrap_or_default(),
                metadata,
            }
        })
    }

    fn answer(&self, verb: Verb) -> serde_json::Result<Vec<u8>> {
        let head = |kind| Head {
            kind,
            name: &self.info.name,
            id: &self.id,
            version: &self.info.version,
            metadata: self.info.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        };
        match verb {
            Verb::Ping => serde_json::to_vec(&head("io.nats.micro.v1.ping_response")),
            Verb::Info => serde_json::to_vec(&InfoResponse {
                head: head("io.nats.micro.v1.info_response"),
                description: &self.info.description,
                endpoints: self.endpoints().collect(),
            }),
            Verb::Stats => serde_json::to_vec(&StatsResponse {
                head: head("io.nats.micro.v1.stats_response"),
                started: &self.started,
                endpoints: self
                    .endpoints()
                    .zip(self.stats())
                    .map(|(info, stats)| EndpointStats::new(&info, stats))
                    .collect(),
            }),
        }
    }

    /// Returns the verb of a subject.
    fn verb(subject: &str) -> Option<Verb> {
        let word = subject.split('.').nth(1)?;
        Verb::ALL.into_iter().find(|verb| verb.word() == word)
    }

    fn subjects(&self) -> impl Iterator<Item = String> {
        Verb::ALL.into_iter().flat_map(|verb| {
            let (name, id) = (&self.info.name, &self.id);
            let all = format!("{PREFIX}.{}", verb.word());
            [format!("{all}.{name}.{id}"), format!("{all}.{name}"), all]
        })
    }
}

/// Replies on all nine subjects, also after a renewal of the connection. Runs until it is aborted.
pub(super) async fn respond(profile: Arc<Profile>, connection: Connection, replies: Arc<ReplySubjects>) {
    let mut live = connection.live();
    loop {
        if let Ok(mut questions) = subscribe(&profile, &live).await {
            while let Some(question) = questions.next().await {
                answer(&profile, &live, &replies, question).await;
            }
        }
        live = connection.renewed(live.generation).await;
    }
}

async fn subscribe(
    profile: &Profile,
    live: &Live,
) -> Result<SelectAll<async_nats::Subscriber>, async_nats::SubscribeError> {
    let mut subscriptions = Vec::new();
    for subject in profile.subjects() {
        subscriptions.push(live.nats.subscribe(subject).await?);
    }
    Ok(select_all(subscriptions))
}

async fn answer(profile: &Profile, live: &Live, replies: &ReplySubjects, question: Message) {
    // A request without a reply subject has no receiver for the reply.
    let Some(reply) = question.reply else { return };
    if !replies.admit(&reply) {
        return metrics::discovery_rejected(&profile.info.name);
    }
    let Some(verb) = Profile::verb(question.subject.as_str()) else { return };
    let max_payload = live.nats.max_payload();
    let written = profile.answer(verb).map_err(RpcError::internal);
    let answer = written
        .and_then(|answer| if answer.len() <= max_payload { Ok(answer) } else { Err(too_large(&answer, max_payload)) });
    // A client that has ended is replaced, and its requests are lost with it.
    let _ = match answer {
        Ok(answer) => live.nats.publish(reply, Bytes::from(answer)).await,
        Err(error) => {
            tracing::error!(verb = verb.word(), %error, "a description of the service cannot be sent");
            let mut body = Vec::new();
            Dialect::Native.error(&error, &mut body);
            live.nats.publish_with_headers(reply, error_headers(&error), body.into()).await
        }
    };
}

fn too_large(answer: &[u8], max_payload: usize) -> RpcError {
    RpcError::payload_too_large(format!(
        "the description of {} bytes is larger than the {max_payload} that nats-server takes: make several services \
         of this one, or raise its max_payload",
        answer.len()
    ))
}

/// Returns the endpoint names for `nats micro req`: unique, of letters, digits, `_` and `-`.
fn endpoint_names<'a>(handlers: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashMap::<String, u32>::new();
    let sanitised = |handler: &str| -> String {
        handler.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
    };
    let name = |handler| {
        let name = sanitised(handler);
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 { name } else { format!("{name}-{times}") }
    };
    handlers.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_the_letters_that_tools_accept() {
        let names = endpoint_names(["get", "größe", "get", "get"].into_iter());
        assert_eq!(names, ["get", "gr__e", "get-2", "get-3"]);
    }
}
