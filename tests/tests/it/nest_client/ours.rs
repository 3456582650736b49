//! A service of ours, called in this dialect.

use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::{CallError, WireFormat};
use nats_rpc_tests::server;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::support::{client, nats, soon};

#[message_pattern("ours.echo")]
async fn echo(Payload(value): Payload<Value>) -> Value {
    value
}

#[message_pattern("ours.fail")]
async fn fail() -> Result<(), RpcError> {
    Err(RpcError::conflict("taken").with_details(7))
}

#[message_pattern({"cmd": "count"})]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

/// Tells when it is dropped.
#[derive(Clone)]
struct Alive(mpsc::UnboundedSender<()>);

struct Guarded(Alive);

impl Drop for Guarded {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.0.send(());
    }
}

#[message_pattern("ours.never")]
async fn never(State(alive): State<Alive>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    let guarded = Guarded(alive);
    Streaming::new(stream::once(std::future::ready(Ok(1))).chain(stream::pending().map(move |number: u32| {
        let _ = &guarded;
        Ok(number)
    })))
}

#[tokio::test]
async fn a_service_of_ours_answers_in_this_dialect_too() {
    let server = server();
    for wire in [WireFormat::Auto, WireFormat::Nest] {
        let (ends, mut ended) = mpsc::unbounded_channel();
        let service = Service::new("ours", "1.0.0")
            .handlers(handlers![echo, fail, count, never])
            .provide(Alive(ends))
            .wire(wire)
            .start(nats(&server))
            .await
            .unwrap();
        let client = client(&server).await.nest();
        let value = json!({ "id": "u1", "response": 1, "isDisposed": false });
        assert_eq!(client.send::<Value>("ours.echo", &value).await.unwrap(), value);
        let Err(CallError::Remote(error)) = client.send::<()>("ours.fail", &()).await else { panic!("no error") };
        assert_eq!((error.code(), error.name(), error.message()), (Some(Code::Conflict), Some("CONFLICT"), "taken"));
        let numbers = client.stream::<u32>(r#"{"cmd":"count"}"#, &900).await.unwrap();
        let numbers: Vec<u32> = soon(numbers.map(Result::unwrap).collect()).await;
        assert_eq!(numbers, Vec::from_iter(1..=900));
        let mut items = client.stream::<u32>("ours.never", &()).await.unwrap();
        assert_eq!(soon(items.next()).await.unwrap().unwrap(), 1);
        drop(items);
        soon(ended.recv()).await.unwrap();
        soon(service.stop()).await;
    }
}
