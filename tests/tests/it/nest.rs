//! NestJS's envelope, as its own clients send and read it.

use nats_rpc::WireFormat;
use nats_rpc::prelude::*;
use nats_rpc_tests::server;
use serde_json::Value;

use crate::support::{code, foreign, nats, request};

#[message_pattern("nest.echo")]
async fn echo(Payload(value): Payload<Value>) -> Value {
    value
}

#[message_pattern({"cmd": "sum"})]
async fn sum(Payload(numbers): Payload<Vec<i64>>) -> i64 {
    numbers.iter().sum()
}

#[message_pattern(42)]
async fn number() -> &'static str {
    "forty-two"
}

#[message_pattern("nest.void")]
async fn void() {}

#[message_pattern("nest.fail")]
async fn fail() -> Result<(), RpcError> {
    Err(RpcError::not_found("gone").with_details(7))
}

async fn start(server: &nats_rpc::testing::NatsServer, wire: WireFormat) -> nats_rpc::ServiceHandle {
    let service = Service::new("nest", "1.0.0").handlers(handlers![echo, sum, number, void, fail]).wire(wire);
    service.start(nats(server)).await.unwrap()
}

#[tokio::test]
async fn requests_of_nestjs_are_answered_as_nestjs_would() {
    let server = server();
    let caller = foreign(&server).await;
    for wire in [WireFormat::Auto, WireFormat::Nest] {
        let service = start(&server, wire).await;
        let ask = async |subject: &str, body: &str| {
            let answer = request(&caller, subject, body.to_owned()).await;
            String::from_utf8(answer.payload.to_vec()).unwrap()
        };
        let echo = ask("nest.echo", r#"{"pattern":"nest.echo","data":{"a":[1,null]},"id":"ID"}"#).await;
        assert_eq!(echo, r#"{"response":{"a":[1,null]},"isDisposed":true,"id":"ID"}"#);
        let sum = ask(r#"{"cmd":"sum"}"#, r#"{"pattern":{"cmd":"sum"},"data":[1,2],"id":7}"#).await;
        assert_eq!(sum, r#"{"response":3,"isDisposed":true,"id":7}"#);
        let number = ask("42", r#"{"pattern":42,"data":0,"id":null}"#).await;
        assert_eq!(number, r#"{"response":"forty-two","isDisposed":true,"id":null}"#);
        let void = ask("nest.void", r#"{"pattern":"nest.void","data":"","id":"ID"}"#).await;
        assert_eq!(void, r#"{"isDisposed":true,"id":"ID"}"#);
        let fail = ask("nest.fail", r#"{"pattern":"nest.fail","data":0,"id":"ID"}"#).await;
        let err = r#"{"status":404,"code":"NOT_FOUND","message":"gone","details":7}"#;
        assert_eq!(fail, format!(r#"{{"err":{err},"isDisposed":true,"id":"ID"}}"#));
        let hang = request(&caller, "nest.echo", r#"{"pattern":"nest.echo","data":1}"#).await;
        assert_eq!(code(&hang), 400, "NestJS lets this caller wait for ever");
        service.stop().await;
    }
}

#[tokio::test]
async fn both_dialects_are_understood_side_by_side() {
    let server = server();
    let _service = start(&server, WireFormat::Auto).await;
    let caller = foreign(&server).await;
    let native = request(&caller, "nest.echo", r#"{"data":3,"id":"p1","pattern":"knit"}"#).await;
    assert_eq!(&native.payload[..], br#"{"data":3,"id":"p1","pattern":"knit"}"#);
    let native = request(&caller, "nest.fail", "").await;
    assert_eq!(
        (code(&native), &native.payload[..]),
        (404, &br#"{"code":"NOT_FOUND","message":"gone","details":7}"#[..])
    );
}

#[tokio::test]
async fn a_native_service_never_looks_for_an_envelope() {
    let server = server();
    let _service = start(&server, WireFormat::Native).await;
    let caller = foreign(&server).await;
    let body = r#"{"data":1,"id":"88a5f0d6ac4d1830655c1","pattern":"nest.echo"}"#;
    assert_eq!(&request(&caller, "nest.echo", body).await.payload[..], body.as_bytes());
}
