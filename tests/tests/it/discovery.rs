//! `$SRV`: any NATS tool finds our services (ADR-32).

use std::time::Duration;

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::{ServiceHandle, StartError};
use nats_rpc_tests::server;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::support::{client, code, foreign, nats, request, soon};

#[message_pattern("srv.{id}.get")]
async fn get(Param(id): Param<u32>) -> u32 {
    id
}

#[message_pattern({"cmd": "sum"})]
async fn sum(Payload(numbers): Payload<Vec<i64>>) -> i64 {
    numbers.iter().sum()
}

#[event_pattern("srv.happened", queue = none)]
async fn happened() {}

async fn start(server: &nats_rpc::testing::NatsServer, name: &str) -> ServiceHandle {
    let service = Service::new(name, "1.2.3").description("for tests").metadata("region", "eu");
    service.handlers(handlers![get, sum, happened]).start(nats(server)).await.unwrap()
}

/// All answers to one question: as many as expected, and none more that an echo would bring.
async fn ask(caller: &async_nats::Client, subject: &str, expected: usize) -> Vec<Value> {
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    caller.publish_with_reply(subject.to_owned(), inbox, "".into()).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < expected {
        heard.push(serde_json::from_slice(&soon(answers.next()).await.unwrap().payload).unwrap());
    }
    let more = tokio::time::timeout(Duration::from_millis(50), answers.next()).await;
    assert!(more.is_err(), "one answer too many: {more:?}");
    heard
}

#[tokio::test]
async fn each_verb_is_answered_for_all_for_the_name_and_for_the_id() {
    let server = server();
    let _instances = [start(&server, "srv").await, start(&server, "srv").await, start(&server, "other").await];
    let caller = foreign(&server).await;
    for (verb, kind) in [("PING", "ping"), ("INFO", "info"), ("STATS", "stats")] {
        let all = ask(&caller, &format!("$SRV.{verb}"), 3).await;
        let named = ask(&caller, &format!("$SRV.{verb}.srv"), 2).await;
        assert_ne!(named[0]["id"], named[1]["id"]);
        let id = named[0]["id"].as_str().unwrap();
        let one = ask(&caller, &format!("$SRV.{verb}.srv.{id}"), 1).await;
        assert_eq!(one[0]["id"], id);
        for answer in all.iter().chain(&named).chain(&one) {
            assert_eq!(answer["type"], format!("io.nats.micro.v1.{kind}_response"));
            assert_eq!((&answer["version"], &answer["metadata"]), (&json!("1.2.3"), &json!({ "region": "eu" })));
        }
    }
}

/// The `nats` tool drops an answer that does not fit its schema, without a word.
#[tokio::test]
async fn every_answer_fits_the_schema_of_adr_32() {
    let schemas = [
        ("PING", include_str!("../../fixtures/srv/ping_response.json")),
        ("INFO", include_str!("../../fixtures/srv/info_response.json")),
        ("STATS", include_str!("../../fixtures/srv/stats_response.json")),
    ];
    let server = server();
    let _plain = start(&server, "srv").await;
    // Names that need mending, wildcards, object and number patterns, an error with quotes in it.
    let _odd = crate::interop::ours(&server, nats_rpc::WireFormat::Auto).await;
    client(&server).await.send::<Value>("add", &"\"no pair\"").await.unwrap_err();
    let caller = foreign(&server).await;
    for (verb, schema) in schemas {
        let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
        for answer in ask(&caller, &format!("$SRV.{verb}"), 3).await {
            let errors: Vec<_> = schema.iter_errors(&answer).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} in {answer}");
        }
    }
}

#[tokio::test]
async fn info_names_every_handler_as_it_is_reached() {
    let server = server();
    let _service = start(&server, "srv").await;
    let info = ask(&foreign(&server).await, "$SRV.INFO.srv", 1).await.remove(0);
    assert_eq!(info["description"], "for tests");
    let endpoints: Vec<_> = info["endpoints"].as_array().unwrap().iter().collect();
    let of = |name: &str| endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap();
    assert_eq!((&of("get")["subject"], &of("get")["queue_group"]), (&json!("srv.*.get"), &json!("srv")));
    assert_eq!(of("sum")["subject"], r#"{"cmd":"sum"}"#);
    assert_eq!(of("happened")["queue_group"], "");
    assert_eq!(of("happened")["metadata"]["kind"], "event");
    assert_eq!(endpoints.len(), 3);
}

/// The same patterns as in [`changed`], of another version.
mod before {
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    pub(super) struct Order {
        #[expect(dead_code, reason = "only the shape is of interest")]
        id: u32,
    }

    #[derive(Serialize, JsonSchema)]
    pub(super) struct Receipt {
        total: u32,
    }

    #[message_pattern("shop.order")]
    #[use_guards(Nobody)]
    pub(super) async fn order(Payload(_): Payload<Order>) -> Result<Receipt, RpcError> {
        Ok(Receipt { total: 0 })
    }

    #[message_pattern("shop.plain")]
    #[public]
    pub(super) async fn plain(Payload(_): Payload<Undescribed>) -> Undescribed {
        Undescribed {}
    }
}

mod changed {
    use super::*;

    #[derive(Deserialize, JsonSchema)]
    pub(super) struct NewOrder {
        #[expect(dead_code, reason = "only the shape is of interest")]
        id: u32,
    }

    #[derive(Serialize, JsonSchema)]
    pub(super) struct Receipt {
        total: u32,
        vat: u32,
    }

    #[message_pattern("shop.order")]
    #[use_guards(Nobody)]
    pub(super) async fn order(Payload(_): Payload<NewOrder>) -> Result<Receipt, RpcError> {
        Ok(Receipt { total: 0, vat: 0 })
    }
}

#[derive(Serialize, Deserialize)]
struct Undescribed {}

struct Nobody;

impl Guard for Nobody {
    async fn can_activate(&self, _: &mut Request) -> Result<(), RpcError> {
        Err(RpcError::forbidden("nobody"))
    }
}

/// A tool that compares instances sees which part of the contract another version changed, and which not.
#[tokio::test]
async fn a_handlers_metadata_has_hashes_that_change_with_the_shape_of_payload_and_answer() {
    let server = server();
    let shop = |version, handlers| Service::new("shop", version).handlers(handlers).guard(Nobody);
    let _before = shop("1.0.0", handlers![before::order, before::plain]).start(nats(&server)).await.unwrap();
    let _changed = shop("2.0.0", handlers![changed::order]).start(nats(&server)).await.unwrap();
    let mut told = ask(&foreign(&server).await, "$SRV.INFO.shop", 2).await;
    told.sort_by_key(|info| info["version"].to_string());
    let metadata = |info: &Value, name: &str| {
        let endpoints = info["endpoints"].as_array().unwrap();
        endpoints.iter().find(|endpoint| endpoint["name"] == name).unwrap()["metadata"].clone()
    };
    let (before, changed) = (metadata(&told[0], "order"), metadata(&told[1], "order"));
    assert_eq!((&before["version"], &changed["version"]), (&json!("1.0.0"), &json!("2.0.0")));
    assert_eq!((&before["guards"], &before["kind"]), (&json!("Nobody"), &json!("message")));
    assert!(before["handler"].as_str().unwrap().ends_with("discovery::before::order"), "{before}");
    assert_eq!(before["payload_schema"].as_str().unwrap().len(), 16);
    assert_eq!(before["payload_schema"], changed["payload_schema"], "the name of a type is not its shape");
    assert_ne!(before["answer_schema"], changed["answer_schema"]);
    let plain = metadata(&told[0], "plain");
    assert!(plain["payload_schema"].is_null() && plain["answer_schema"].is_null(), "{plain}");
    assert_eq!(plain["public"], "true");
}

#[tokio::test]
async fn stats_count_requests_errors_and_time_and_can_be_reset() {
    let server = server();
    let service = start(&server, "srv").await;
    let caller = foreign(&server).await;
    let client = client(&server).await;
    for _ in 0..3 {
        client.send::<u32>("srv.7.get", &()).await.unwrap();
    }
    client.send::<u32>("srv.x.get", &()).await.unwrap_err();
    let stats = ask(&caller, "$SRV.STATS.srv", 1).await.remove(0);
    let started = stats["started"].as_str().unwrap();
    assert!(started.ends_with('Z') && started.contains('T'), "{started}");
    let get = stats["endpoints"].as_array().unwrap().iter().find(|endpoint| endpoint["name"] == "get").unwrap();
    assert_eq!((&get["num_requests"], &get["num_errors"]), (&json!(4), &json!(1)));
    assert!(get["last_error"].as_str().unwrap().starts_with("400:"), "{get}");
    let time = get["processing_time"].as_u64().unwrap();
    assert_eq!(get["average_processing_time"].as_u64().unwrap(), time / 4);
    let latency = get["data"]["latency"].as_array().unwrap().iter();
    assert_eq!(latency.map(|bucket| bucket["requests"].as_u64().unwrap()).sum::<u64>(), 4);
    service.reset_stats();
    let stats = ask(&caller, "$SRV.STATS.srv", 1).await.remove(0);
    for endpoint in stats["endpoints"].as_array().unwrap() {
        assert_eq!((&endpoint["num_requests"], &endpoint["last_error"]), (&json!(0), &json!("")));
    }
}

#[tokio::test]
async fn nobody_is_answered_who_does_not_ask_and_nobody_after_the_stop() {
    let server = server();
    let service = start(&server, "srv").await;
    let caller = foreign(&server).await;
    let mut everything = caller.subscribe("_INBOX.>").await.unwrap();
    caller.publish("$SRV.PING", "".into()).await.unwrap();
    ask(&caller, "$SRV.PING", 1).await;
    soon(everything.next()).await.unwrap();
    assert!(futures::FutureExt::now_or_never(everything.next()).is_none());
    soon(service.stop()).await;
    let other = foreign(&server).await;
    let error = soon(other.request("$SRV.PING.srv", "".into())).await.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
}

#[tokio::test]
async fn a_description_that_does_not_fit_into_a_message_is_answered_with_an_error() {
    let server = nats_rpc_tests::server_with(|builder| builder.config("max_payload: 512").jetstream(false));
    let _service = start(&server, "srv").await;
    let caller = foreign(&server).await;
    for verb in ["INFO", "STATS"] {
        let answer = request(&caller, &format!("$SRV.{verb}.srv"), "").await;
        assert_eq!(code(&answer), 413, "{verb}");
        assert_eq!(serde_json::from_slice::<Value>(&answer.payload).unwrap()["code"], "PAYLOAD_TOO_LARGE");
    }
    ask(&caller, "$SRV.PING", 1).await;
}

/// nats-server would drop the connection of a service that answered.
#[tokio::test]
async fn nobody_is_answered_at_a_subject_that_is_too_long_for_a_line() {
    let server = server();
    let _service = start(&server, "srv").await;
    let caller = foreign(&server).await;
    let mut answers = caller.subscribe("_INBOX_long.*").await.unwrap();
    for length in [4_000, 100] {
        caller.publish_with_reply("$SRV.PING", format!("_INBOX_long.{}", "x".repeat(length)), "".into()).await.unwrap();
    }
    let answer = soon(answers.next()).await.unwrap();
    assert_eq!(answer.subject.len(), 112, "the long one is passed over");
}

#[tokio::test]
async fn a_name_or_version_that_tools_would_drop_is_refused() {
    for (name, version) in [("my service", "1.0.0"), ("srv.a", "1.0.0"), ("srv", "1.0"), ("srv", "v1.0.0")] {
        let service = Service::new(name, version).handlers(handlers![get]);
        let error = service.start(nats_rpc::NatsConfig::new("nats://127.0.0.1:1")).await.unwrap_err();
        assert!(matches!(error, StartError::Invalid(_)), "{error}");
    }
}
