//! A Python program (nats-py) calls our services: any NATS client can, without a library of ours.

use nats_rpc::WireFormat;
use nats_rpc_tests::{python, server};
use serde_json::{Value, json};

use super::{lines, ours, report};

#[tokio::test]
async fn a_python_client_gets_answers_coded_errors_and_discovery() {
    let server = server();
    let _services = ours(&server, WireFormat::Auto).await;
    let mut program = python::program("python").unwrap_or_else(|error| panic!("{error}"));
    program.env("NATS_URL", server.url());
    let steps = lines(program).await;
    let step =
        |name: &str| steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("{name}: {steps:?}"));

    assert_eq!(step("request")["answer"], 5);
    assert_eq!(step("envelope")["answer"], json!({ "response": 5, "isDisposed": true, "id": "1" }));
    let error = step("error");
    assert_eq!((&error["header"], &error["body"]["code"]), (&json!("400"), &json!("INVALID_ARGUMENT")));
    assert_eq!(error["text"], error["body"]["message"], "the header repeats the message");
    assert_eq!(step("refused")["header"], "403");
    assert_eq!(step("headers")["answer"]["headers"], json!({ "X-Trace": ["t1"] }));
    assert_eq!(step("deadline")["header"], "504");
    let items = |last: u32| (0..=last).map(|i| json!({ "i": i })).collect::<Value>();
    assert_eq!(step("stream"), &json!({ "step": "stream", "items": items(4), "end": "end", "code": null }));
    assert_eq!((&step("broken stream")["items"], &step("broken stream")["end"]), (&items(2), &json!("error")));
    step("nobody");
    for verb in ["ping", "info", "stats"] {
        let expected = json!({ "step": verb, "type": format!("io.nats.micro.v1.{verb}_response"), "name": "interop", "version": "1.0.0" });
        assert_eq!(step(verb), &expected as &Value);
    }
    report(&format!("{} steps of a Python client", steps.len()));
}
