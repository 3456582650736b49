//! The official JavaScript services client (ADR-32) looks at our services and calls them.

use nats_rpc::WireFormat;
use nats_rpc_tests::server;
use serde_json::{Value, json};

use super::{lines, node_is_there, ours, program, report};

#[tokio::test]
async fn the_official_services_client_finds_and_calls_our_services() {
    if !node_is_there() {
        return;
    }
    let server = server();
    let _services = [ours(&server, WireFormat::Auto).await, ours(&server, WireFormat::Auto).await];
    let run = async |words: &[&str]| {
        let mut command = program("micro-client", &server);
        command.args(words);
        lines(command).await
    };

    let pings = run(&["ping"]).await;
    assert_eq!(pings.len(), 4, "two services, two instances each: {pings:?}");
    let named = run(&["ping", "interop"]).await;
    assert_eq!(named.len(), 2, "{named:?}");
    let id = named[0]["id"].as_str().unwrap();

    let info = run(&["info", "interop", id]).await;
    assert_eq!(info.len(), 1);
    let endpoint = |answer: &Value, name: &str| {
        let endpoints = answer["endpoints"].as_array().unwrap();
        endpoints.iter().find(|endpoint| endpoint["name"] == name).cloned().unwrap()
    };
    assert_eq!(endpoint(&info[0], "wild")["subject"], "users.*.get");

    let answer = run(&["req", "add", r#"{"a":2,"b":3}"#]).await;
    assert_eq!(answer[0]["body"], "5");
    let refused = run(&["req", "add", r#"{"a":2}"#, "x-a=b"]).await;
    assert_eq!(refused[0]["headers"]["Nats-Service-Error-Code"], json!(["400"]));
    assert_eq!(
        serde_json::from_str::<Value>(refused[0]["body"].as_str().unwrap()).unwrap()["code"],
        "INVALID_ARGUMENT"
    );

    let stats = run(&["stats", "interop"]).await;
    let sum = |field: &str| stats.iter().map(|answer| endpoint(answer, "add")[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("num_requests"), sum("num_errors")), (2, 1), "{stats:?}");
    for (answers, kind) in [(&pings, "ping"), (&info, "info"), (&stats, "stats")] {
        let kind = format!("io.nats.micro.v1.{kind}_response");
        assert!(answers.iter().all(|answer| answer["type"] == kind), "{kind}: {answers:?}");
    }
    report("the official services client: ping, info, stats, two calls");
}
