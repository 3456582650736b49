//! A client of async-nats that has died is replaced, and nobody has to know.

use std::sync::Arc;

use futures::StreamExt;
use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client, Connection, HeaderFilter, KvBucket};
use nats_rpc_tests::server;
use tokio::sync::{Semaphore, mpsc};

use crate::support::{PATIENCE, code, foreign, nats, request, send_raw, soon, until_ready};

/// A message whose header holds a bare carriage return: async-nats 0.51 panics on it.
pub(crate) fn deadly(subject: &str) -> Vec<u8> {
    let header = "NATS/1.0\r\nx: a\rb\r\n\r\n";
    format!("HPUB {subject} {} {}\r\n{header}\"\"\r\n", header.len(), header.len() + 2).into_bytes()
}

#[derive(Clone)]
struct Gate {
    started: mpsc::UnboundedSender<()>,
    release: Arc<Semaphore>,
}

#[message_pattern("renew.gate")]
async fn gate(State(gate): State<Gate>) -> Result<(), RpcError> {
    gate.started.send(()).internal()?;
    gate.release.acquire().await.internal()?.forget();
    Ok(())
}

#[message_pattern("renew.ping")]
async fn ping() -> &'static str {
    "pong"
}

#[message_pattern("renew.forward")]
async fn forward(State(client): State<Client>) -> Result<String, RpcError> {
    Ok(client.send("renew.ping", &()).await?)
}

#[message_pattern("renew.stored")]
async fn stored(State(bucket): State<Arc<KvBucket>>) -> Result<bool, RpcError> {
    let store = &bucket.current().await.internal()?.store;
    Ok(store.get("key").await.internal()?.is_some())
}

pub(crate) async fn until_renewed(connection: &Connection) {
    soon(async {
        while connection.generation() == 0 {
            tokio::task::yield_now().await;
        }
        connection.round_trip(PATIENCE).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_service_whose_client_died_serves_on_and_answers_what_it_had_taken() {
    let server = server();
    let bucket = async_nats::jetstream::kv::Config { bucket: "renew".to_owned(), ..Default::default() };
    let store = async_nats::jetstream::new(foreign(&server).await).create_key_value(bucket).await.unwrap();
    store.put("key", "value".into()).await.unwrap();
    let (started, mut starts) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let service = Service::new("renew", "1.0.0")
        .handlers(handlers![gate, ping, forward, stored])
        .provide_with(async |context: ServiceContext| KvBucket::open(context.connection(), "renew").await.map(Arc::new))
        .provide(Gate { started, release: release.clone() })
        .provide_with(async |context: ServiceContext| Ok::<_, RpcError>(Client::new(context.connection().clone())));
    let running = service.start(nats(&server)).await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    caller.publish_with_reply("renew.gate", inbox, "".into()).await.unwrap();
    soon(starts.recv()).await.unwrap();

    send_raw(&server, &deadly("renew.ping")).await;
    until_renewed(running.connection()).await;
    until_ready(&running).await;

    release.add_permits(1);
    assert_eq!(code(&soon(answers.next()).await.unwrap()), 0, "the answer leaves by the new client");
    assert_eq!(&request(&caller, "renew.ping", "").await.payload[..], b"\"pong\"");
    assert_eq!(&request(&caller, "renew.forward", "").await.payload[..], b"\"pong\"");
    assert_eq!(&request(&caller, "renew.stored", "").await.payload[..], b"true");
    soon(running.stop()).await;
}

#[tokio::test]
async fn a_client_that_dies_during_a_stop_costs_no_answer() {
    let server = server();
    let (started, mut starts) = mpsc::unbounded_channel();
    let release = Arc::new(Semaphore::new(0));
    let gate_state = Gate { started, release: release.clone() };
    let service = Service::new("renew", "1.0.0").handlers(handlers![gate, ping]).provide(gate_state);
    let running = service.start(nats(&server)).await.unwrap();
    let connection = running.connection().clone();
    // A subscription of somebody else's on the service's connection, by which it can be hit while it stops.
    let _target = connection.nats().subscribe("renew.target").await.unwrap();
    let caller = foreign(&server).await;
    let inbox = caller.new_inbox();
    let mut answers = caller.subscribe(inbox.clone()).await.unwrap();
    caller.publish_with_reply("renew.gate", inbox, "".into()).await.unwrap();
    soon(starts.recv()).await.unwrap();

    let stopping = tokio::spawn(running.stop());
    // Once nobody takes calls any more, the loop only waits for its handler. Another handler tells: a call that
    // the gate still took would never be released.
    let gone = async {
        while !caller
            .request("renew.ping", "".into())
            .await
            .is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders)
        {}
    };
    soon(gone).await;
    connection.round_trip(PATIENCE).await.unwrap();
    send_raw(&server, &deadly("renew.target")).await;
    until_renewed(&connection).await;
    release.add_permits(1);
    assert_eq!(code(&soon(answers.next()).await.unwrap()), 0, "the answer leaves by the new client");
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn a_caller_whose_client_died_is_told_and_calls_on() {
    let server = server();
    let _service = Service::new("renew", "1.0.0").handlers(handlers![ping]).start(nats(&server)).await.unwrap();
    let silent = foreign(&server).await;
    let mut asked = silent.subscribe("renew.silent").await.unwrap();
    silent.flush().await.unwrap();
    let client = Client::connect(&nats(&server)).await.unwrap().timeout(PATIENCE * 10);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.send::<()>("renew.silent", &()).await }
    });
    let question = soon(asked.next()).await.unwrap();
    send_raw(&server, &deadly(&question.reply.unwrap())).await;
    let error = soon(call).await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error}");
    until_renewed(client.connection()).await;
    assert_eq!(client.send::<String>("renew.ping", &()).await.unwrap(), "pong");
}

#[tokio::test]
async fn emit_waits_for_a_client_that_is_renewed() {
    let server = server();
    let client = Client::connect(&nats(&server).header_filter(HeaderFilter::Never)).await.unwrap();
    let patient = client.timeout(PATIENCE).wait_for_ready();
    let connection = client.connection().clone();
    let emitting = async {
        for generation in 1..=5 {
            let _target = connection.nats().subscribe("renew.target").await.unwrap();
            connection.round_trip(PATIENCE).await.unwrap();
            send_raw(&server, &deadly("renew.target")).await;
            while connection.generation() < generation {
                patient.emit("renew.event", &()).await.unwrap();
            }
            patient.emit("renew.event", &()).await.unwrap();
        }
    };
    soon(emitting).await;
}
