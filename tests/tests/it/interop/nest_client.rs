//! NestJS's client, asking a NestJS service and ours the same.

use nats_rpc::Wire;
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
    let jobs: Vec<Value> =
        captures().iter().filter(|capture| !no_answer.contains(&capture.name.as_str())).filter_map(job).collect();
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
    for wire in [Wire::Nest, Wire::Auto] {
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
