//! Traces that cross services, spans for OpenTelemetry, metrics.

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use nats_rpc::prelude::*;
use nats_rpc::{Client, ServiceHandle};
use nats_rpc_tests::server;
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing_subscriber::layer::SubscriberExt;

use crate::support::{PATIENCE, client, foreign, nats, request_with};

pub(crate) const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

pub(crate) type Seen = (Option<String>, Option<String>);

fn seen(headers: &Headers) -> Seen {
    (headers.get("traceparent").map(Into::into), headers.get("tracestate").map(Into::into))
}

#[message_pattern("trace.inner")]
pub(crate) async fn inner(headers: Headers) -> Seen {
    seen(&headers)
}

#[message_pattern("trace.outer")]
async fn outer(State(client): State<Client>) -> Result<Seen, RpcError> {
    // Not at the first poll: the context has to be there at every later one too.
    tokio::task::yield_now().await;
    Ok(client.send("trace.inner", &()).await?)
}

#[message_pattern("trace.failing")]
async fn failing() -> Result<(), RpcError> {
    Err(RpcError::not_found("no such thing"))
}

#[event_pattern("trace.happened")]
async fn happened() {}

async fn start(server: &nats_rpc::testing::NatsServer) -> ServiceHandle {
    let service = Service::new("traced", "1.0.0").handlers(handlers![inner, outer, failing, happened]);
    service.provide(client(server).await).start(nats(server)).await.unwrap()
}

#[tokio::test]
async fn a_handlers_calls_pass_on_the_trace_that_its_request_came_with() {
    let server = server();
    let _service = start(&server).await;
    let client = client(&server).await;
    let traced = client.header("Traceparent", PARENT).header("tracestate", "vendor=1");
    let (parent, state) = traced.send::<Seen>("trace.outer", &()).await.unwrap();
    assert_eq!((parent.as_deref(), state.as_deref()), (Some(PARENT), Some("vendor=1")));
    assert_eq!(client.send::<Seen>("trace.outer", &()).await.unwrap(), (None, None), "no trace is made up");
    let junk = client.header("traceparent", "00-junk");
    assert_eq!(junk.send::<Seen>("trace.outer", &()).await.unwrap(), (None, None), "what is malformed goes no further");
}

/// As the recommendation has it: nobody can tell which of two parents is the caller's, and states are one list.
#[tokio::test]
async fn of_headers_that_come_twice_no_parent_is_taken_and_all_states_are() {
    let server = server();
    let _service = start(&server).await;
    let caller = foreign(&server).await;
    let ask = async |headers: &[(&'static str, &str)]| {
        let answer = request_with(&caller, "trace.outer", headers, "").await;
        serde_json::from_slice::<Seen>(&answer.payload).unwrap()
    };
    let states = [("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2,c=3")];
    assert_eq!(ask(&states).await, (Some(PARENT.to_owned()), Some("a=1,b=2,c=3".to_owned())));
    for second in ["traceparent", "Traceparent"] {
        assert_eq!(ask(&[("traceparent", PARENT), (second, PARENT)]).await, (None, None), "{second}");
    }
    let many = vec!["a=1"; 33].join(",");
    assert_eq!(ask(&[("traceparent", PARENT), ("tracestate", &many)]).await, (Some(PARENT.to_owned()), None));
}

/// What OpenTelemetry was told while `work` ran.
pub(crate) async fn spans(work: impl Future<Output = ()>) -> Vec<SpanData> {
    let collector = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(collector.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    // While there is just one dispatcher, tracing asks the thread that first meets a span whether anybody wants
    // it; that may be another test's, which has none. With a second one it asks both.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // Of this thread alone, and the test's runtime has no other.
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    work.await;
    drop(guard);
    collector.get_finished_spans().unwrap()
}

fn attribute(span: &SpanData, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == name);
    found.unwrap_or_else(|| panic!("{} has no {name}", span.name)).value.to_string()
}

/// The span of a name, kind and subject.
pub(crate) fn of<'a>(spans: &'a [SpanData], name: &str, kind: &SpanKind, subject: &str) -> &'a SpanData {
    let is_it = |span: &&SpanData| {
        span.name == name && span.span_kind == *kind && attribute(span, "messaging.destination.name") == subject
    };
    spans.iter().find(is_it).unwrap_or_else(|| panic!("no {name} of {subject}: {spans:#?}"))
}

#[tokio::test]
async fn opentelemetry_sees_one_trace_from_the_caller_to_the_last_service() {
    let server = server();
    let spans = spans(async {
        let service = start(&server).await;
        let client = client(&server).await;
        client.send::<Seen>("trace.outer", &()).await.unwrap();
        client.send::<()>("trace.failing", &()).await.unwrap_err();
        client.emit("trace.happened", &1).await.unwrap();
        // The server has the event before the stop begins.
        client.connection().round_trip(PATIENCE).await.unwrap();
        service.stop().await;
    })
    .await;
    let of = |name: &str, kind: SpanKind, subject: &str| of(&spans, name, &kind, subject);

    let path = [
        of("send", SpanKind::Client, "trace.outer"),
        of("process trace.outer", SpanKind::Server, "trace.outer"),
        of("send", SpanKind::Client, "trace.inner"),
        of("process trace.inner", SpanKind::Server, "trace.inner"),
    ];
    for pair in path.windows(2) {
        assert_eq!(
            pair[0].span_context.trace_id(),
            pair[1].span_context.trace_id(),
            "{} {}",
            pair[0].name,
            pair[1].name
        );
        assert_eq!(pair[1].parent_span_id, pair[0].span_context.span_id(), "{} {}", pair[0].name, pair[1].name);
    }
    assert_eq!(attribute(path[3], "messaging.system"), "nats");
    assert_eq!(attribute(path[3], "messaging.consumer.group.name"), "traced");
    assert_eq!(attribute(path[3], "messaging.destination.template"), "trace.inner");

    for failed in
        [of("send", SpanKind::Client, "trace.failing"), of("process trace.failing", SpanKind::Server, "trace.failing")]
    {
        assert_eq!(attribute(failed, "error.type"), "NOT_FOUND");
        assert!(matches!(failed.status, Status::Error { .. }), "{:?}", failed.status);
    }
    let sent = of("send", SpanKind::Producer, "trace.happened");
    let received = of("process trace.happened", SpanKind::Consumer, "trace.happened");
    assert_eq!(received.parent_span_id, sent.span_context.span_id());
}

#[test]
fn metrics_count_requests_by_code_and_calls_by_outcome() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            let service = start(&server).await;
            let client = client(&server).await.no_responders_timeout(std::time::Duration::ZERO);
            for _ in 0..3 {
                client.send::<Seen>("trace.inner", &()).await.unwrap();
            }
            client.send::<()>("trace.failing", &()).await.unwrap_err();
            client.send::<()>("nobody.listens", &()).await.unwrap_err();
            service.stop().await;
        });
    });
    let snapshot = snapshotter.snapshot().into_vec();
    let value = |name: &str, label: (&str, &str)| {
        let is_it = |key: &metrics::Key| {
            let labels = key.labels().map(|found| (found.key(), found.value())).collect::<Vec<_>>();
            key.name() == name && (label.0.is_empty() || labels.contains(&label))
        };
        let found = snapshot.iter().filter(|(key, ..)| is_it(key.key()));
        let values = found.map(|(.., value)| match value {
            DebugValue::Counter(count) => *count as f64,
            DebugValue::Gauge(gauge) => gauge.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        });
        values.sum::<f64>() as i64
    };
    assert_eq!(value("nats_rpc_requests_total", ("handler", "inner")), 3);
    assert_eq!(value("nats_rpc_requests_total", ("code", "OK")), 3);
    assert_eq!(value("nats_rpc_requests_total", ("code", "NOT_FOUND")), 1);
    assert_eq!(value("nats_rpc_request_duration_seconds", ("service", "traced")), 4);
    assert_eq!(value("nats_rpc_requests_in_flight", ("service", "traced")), 0, "all of them have ended");
    assert_eq!(value("nats_rpc_calls_total", ("outcome", "NO_RESPONDERS")), 1);
    assert_eq!(value("nats_rpc_call_duration_seconds", ("", "")), 5);
    assert_eq!(value("nats_rpc_connection_up", ("", "")), 1);
}
