//! NestJS's client, asking a NestJS service and ours the same.

use nats_rpc::WireFormat;
use nats_rpc::testing::NatsServer;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::{Capture, Process, captures, lines, node_is_there, ours, program, report};

/// The NestJS service.
pub(super) async fn nest_service(server: &NatsServer) -> Process {
    let mut command = program("nest-service", server);
    command.env("QUIET_EVENTS", "1");
    Process::start(command).await.0
}

/// What the client is to do for one capture.
fn job(capture: &Capture) -> Option<Value> {
    let call = capture.client_call.as_deref()?;
    let Some(message) = capture.messages.first() else {
        // Refused by the client itself: it sends nothing.
        return Some(json!({ "op": call, "pattern": "echo", "data": null }));
    };
    let mut job: Value = serde_json::from_slice(&message.body()).unwrap();
    job.as_object_mut().unwrap().remove("id");
    job["op"] = call.into();
    job["timeoutMs"] = 5_000.into();
    if !message.headers.is_empty() || job.get("data").is_none() {
        job["headers"] = json!(message.headers);
    }
    Some(job)
}

/// What the captures leave out: data of another form, the two spellings of a pattern, junk for tokens, and requests
/// to events, of which one handler alone answers otherwise than one of several.
fn more_jobs() -> Vec<Value> {
    let send = |pattern: Value, data: Value| json!({ "pattern": pattern, "data": data, "timeoutMs": 5_000 });
    let with = |pattern: &str, headers: Value| json!({ "pattern": pattern, "data": 1, "headers": headers });
    let guarded = ["secure.echo", "secure.user"].into_iter().flat_map(|pattern| {
        TOKENS.into_iter().map(move |token| with(pattern, json!({ "authorization": format!("Bearer {token}") })))
    });
    let others = vec![
        send(json!("add"), json!({ "a": 1.5, "b": 2 })),
        send(json!("sum"), json!([0.5, 1, 0.25])),
        send(json!("stream"), json!(2)),
        send(json!("stream"), json!({ "n": 0 })),
        send(json!("field"), json!(3)),
        send(json!("field"), json!([])),
        send(json!("fail_rpc"), json!(1)),
        send(json!("users.*.get"), json!({ "x": 1 })),
        send(json!("deep"), json!(1)),
        send(json!("over.b"), json!(1)),
        send(json!(r#"{"cmd":"sum"}"#), json!([1])),
        send(json!({ "cmd": "sum" }), json!([1])),
        send(json!("42"), json!(1)),
        with("whoami", json!({ "X-A": ["1", "2"], "x-a": "3" })),
        send(json!("evt.one"), json!(1)),
        send(json!("evt.wild.x"), json!(1)),
        send(json!("evt.throw"), json!(1)),
    ];
    guarded.chain(others).collect()
}

/// Signed with the program's own secret unless said otherwise.
const TOKENS: [&str; 9] = [
    // Good; expired; of another secret; of a later time; without a signature; of another algorithm.
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSIsImlhdCI6MX0.lviu-dKWn3ntVnBlyS7PFKqppmzCUnkZkYVZGQSoy_g",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSIsImlhdCI6MSwiZXhwIjoyfQ.PdD9rt0XzAUH5jZgLdHV5lK_M-FKzKh7VtRQtiWNbWE",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSJ9.OOZuHCrFIaqjLW_Ch1KpnUBItwAMqtJwc9JFCYizgmg",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSIsIm5iZiI6OTk5OTk5OTk5OTl9.NunTvBQ5zN4Cnyug2UdPPaCWJtCM_tnbu7Yzd_fsPRg",
    "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJ1MSJ9.",
    "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJ1MSJ9.UghNPaDkyV1S1ImaiQCx2KBCrEJDnleitMUtmhh9X_0",
    "x.y.z",
    "x",
    "",
];

/// What differs from run to run, and from process to process, is left out.
fn comparable(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    fields.remove("ms");
    if let Some(pid) = line.pointer_mut("/value/pid") {
        *pid = json!(0);
    }
    line
}

#[tokio::test]
async fn a_nestjs_client_cannot_tell_our_service_from_a_nestjs_service() {
    if !node_is_there() {
        return;
    }
    // These have no answer of NestJS's to compare with, or two that race.
    let no_answer = ["observable_never", "reply_too_big", "unknown_pattern_with_sniffer", "overlapping_subscriptions"];
    let captured = captures();
    let captured = captured.iter().filter(|capture| !no_answer.contains(&capture.name.as_str()));
    let jobs: Vec<Value> = captured.filter_map(job).chain(more_jobs()).collect();
    let ask = async |server: &NatsServer| {
        let mut command = program("nest-client", server);
        command.arg(Value::from(jobs.clone()).to_string());
        lines(command).await.into_iter().map(comparable).collect::<Vec<_>>()
    };

    let theirs = {
        let server = server();
        let _service = nest_service(&server).await;
        ask(&server).await
    };
    for wire in [WireFormat::Nest, WireFormat::Auto] {
        let server = server();
        let _services = ours(&server, wire).await;
        let ours = ask(&server).await;
        for (index, job) in jobs.iter().enumerate() {
            let of = |lines: &[Value]| lines.iter().filter(|line| line["i"] == index).cloned().collect::<Vec<_>>();
            assert_eq!(of(&ours), of(&theirs), "{job} with {wire:?}");
        }
    }
    report(&format!("{} calls of a NestJS client: our service and a NestJS service are the same to it", jobs.len()));
}
