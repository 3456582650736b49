//! Events: a handler prints a line on standard output for each, and another returns their counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use nats_rpc::Route;
use nats_rpc::prelude::*;
use serde_json::{Value, json};

use super::errors::hidden;
use super::subjects::by_name;

pub(crate) fn routes() -> Vec<&'static Route> {
    handlers![on_event, on_event_as_well, on_event_throw, event_count]
}

#[derive(Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counts {
    fn count(&self, what: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(what.to_owned()).or_default() += 1;
    }
}

#[event_pattern("evt.one")]
#[event_pattern("evt.wild.*")]
async fn on_event(subject: Subject, headers: Headers, State(counts): State<Counts>, data: Option<Payload<Value>>) {
    counts.count(subject.as_str());
    let data = data.map_or_else(|| "<undefined>".into(), |Payload(data)| data);
    let line = json!({ "subject": subject.as_str(), "data": data, "headers": by_name(&headers) });
    println!("EVENT {line}");
}

#[event_pattern("evt.one")]
async fn on_event_as_well(State(counts): State<Counts>) {
    counts.count("second");
}

#[event_pattern("evt.throw")]
async fn on_event_throw() -> Result<(), RpcError> {
    Err(hidden().with_source("event handler failed"))
}

#[message_pattern("event_count")]
async fn event_count(State(counts): State<Counts>) -> BTreeMap<String, u64> {
    counts.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
