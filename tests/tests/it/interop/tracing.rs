//! A trace through a NestJS service that stands between two of ours.

use std::path::Path;

use nats_rpc::Client;
use nats_rpc::prelude::*;
use nats_rpc_tests::{node, server};
use opentelemetry::trace::SpanKind;

use super::{Process, node_is_there, report};
use crate::observability::{PARENT, Seen, inner, of, spans};
use crate::support::{client, nats};

/// What NestJS's service heard, and what it was answered.
#[derive(Debug, Serialize, Deserialize)]
struct Relayed {
    parent: Option<String>,
    inner: Seen,
}

#[message_pattern("trace.front")]
async fn front(State(client): State<Client>) -> Result<Relayed, RpcError> {
    Ok(client.nest().send("relay", &1).await?)
}

#[tokio::test]
async fn a_trace_goes_from_our_service_through_nestjss_to_ours() {
    if !node_is_there() {
        return;
    }
    let server = server();
    let mut relay = node::node_in(Path::new("tests/interop/nest-service")).unwrap_or_else(|error| panic!("{error}"));
    relay.arg("relay.mjs").env("NATS_URL", server.url());
    let (_relay, _) = Process::start(relay).await;
    let client = client(&server).await;
    let service = Service::new("traced", "1.0.0").handlers(handlers![front, inner]).provide(client.clone());
    let service = service.start(nats(&server)).await.unwrap();

    let traced = client.header("traceparent", PARENT).header("tracestate", "vendor=1");
    let relayed: Relayed = traced.send("trace.front", &()).await.unwrap();
    assert_eq!(relayed.inner, (Some(PARENT.to_owned()), Some("vendor=1".to_owned())), "the headers as they came");

    let spans = spans(async {
        let relayed: Relayed = client.send("trace.front", &()).await.unwrap();
        assert_eq!(relayed.inner.0, relayed.parent);
        assert!(relayed.parent.is_some());
        service.stop().await;
    })
    .await;
    let path = [
        of(&spans, "send", &SpanKind::Client, "trace.front"),
        of(&spans, "process trace.front", &SpanKind::Server, "trace.front"),
        of(&spans, "send", &SpanKind::Client, "relay"),
        // NestJS's service has no spans, so the next one is a child of the call to it.
        of(&spans, "process trace.inner", &SpanKind::Server, "trace.inner"),
    ];
    for pair in path.windows(2) {
        let names = format!("{} {}", pair[0].name, pair[1].name);
        assert_eq!(pair[0].span_context.trace_id(), pair[1].span_context.trace_id(), "{names}");
        assert_eq!(pair[1].parent_span_id, pair[0].span_context.span_id(), "{names}");
    }
    report("one trace through Rust, NestJS and Rust");
}
