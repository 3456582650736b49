//! Requests whose subject a JetStream stream captures: its acknowledgement comes first, and is not the reply.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{self, stream};
use futures::{Stream, StreamExt};
use nats_rpc::prelude::*;
use nats_rpc::testing::NatsServer;
use nats_rpc::{CallError, Client, ServiceHandle};
use nats_rpc_tests::server;
use serde_json::{Value, json};

use crate::support::{client, foreign, nats, soon};

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct User {
    name: String,
}

/// It takes longer than an acknowledgement.
#[message_pattern("users.get")]
async fn get() -> User {
    tokio::time::sleep(Duration::from_millis(50)).await;
    User { name: "ada".to_owned() }
}

#[message_pattern("users.count")]
async fn count() -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(
        futures::stream::once(tokio::time::sleep(Duration::from_millis(50)))
            .flat_map(|()| futures::stream::iter((1..=3).map(Ok))),
    )
}

/// Its reply has the shape of an acknowledgement.
#[message_pattern("users.position")]
async fn position() -> Value {
    json!({ "stream": "PRICES", "seq": 7 })
}

async fn captured(config: stream::Config) -> (NatsServer, ServiceHandle, Client) {
    let server = server();
    let service = Service::new("users", "1.0.0").handlers(handlers![get, count, position]);
    let service = service.start(nats(&server)).await.unwrap();
    let jetstream = jetstream::new(foreign(&server).await);
    let config = stream::Config { name: "AUDIT".to_owned(), subjects: vec!["users.>".to_owned()], ..config };
    jetstream.create_stream(config).await.unwrap();
    let client = client(&server).await;
    (server, service, client)
}

#[tokio::test]
async fn the_reply_is_taken_and_the_acknowledgement_is_not() {
    let full = stream::Config { max_messages: 0, max_message_size: 1, ..Default::default() };
    for config in [stream::Config::default(), full] {
        let (_server, _service, client) = captured(config).await;
        let ada = || User { name: "ada".to_owned() };
        assert_eq!(soon(client.send::<User>("users.get", &"a request")).await.unwrap(), ada());
        assert_eq!(soon(client.send::<Value>("users.get", &"a request")).await.unwrap(), json!(ada()));
        assert_eq!(soon(client.send::<HashMap<String, Value>>("users.get", &"a")).await.unwrap().len(), 1);
        assert_eq!(soon(client.nest().send::<User>("users.get", &"a request")).await.unwrap(), ada());
        let items = soon(client.stream::<Value>("users.count", &"a request")).await.unwrap();
        let items: Vec<_> = soon(items.map(Result::unwrap).collect()).await;
        assert_eq!(items, [json!(1), json!(2), json!(3)]);
        let position = soon(client.send::<Value>("users.position", &"a request")).await.unwrap();
        assert_eq!(position, json!({ "stream": "PRICES", "seq": 7 }), "a handler may reply with that shape");
    }
}

#[tokio::test]
async fn a_call_without_another_reply_names_the_stream() {
    let (_server, service, client) = captured(stream::Config::default()).await;
    let short = client.timeout(Duration::from_millis(300)).stream_timeout(Duration::from_millis(300));
    soon(service.stop()).await;
    let named = |error: CallError| matches!(&error, CallError::CapturedByStream { stream, .. } if stream == "AUDIT");
    assert!(named(soon(short.send::<User>("users.get", &())).await.unwrap_err()));
    assert!(named(soon(short.nest().send::<User>("users.get", &())).await.unwrap_err()));
    assert!(named(soon(short.stream::<User>("users.get", &())).await.unwrap_err()));
    assert!(named(
        soon(short.item_timeout(Duration::from_millis(100)).stream::<User>("users.get", &())).await.unwrap_err()
    ));
    // The controls: one who wants the acknowledgement gets it, and a subject outside has no listener.
    let ack: Result<PublishAck, _> = soon(short.send("users.get", &())).await;
    assert_eq!(ack.unwrap().stream, "AUDIT");
    let error = soon(short.no_responders_timeout(Duration::ZERO).send::<User>("other.get", &())).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders { .. }), "{error}");
}
