//! Replies that nobody asked for: guessed, repeated, late and forged ones.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use futures::{FutureExt, Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client};
use nats_rpc_tests::server;

use crate::support::{PATIENCE, client, foreign, nats, soon};

/// Tokens that one who knows `token` would try: its neighbours, its parts, numbers.
fn guesses(token: &str) -> Vec<String> {
    let (number, tag) = token.split_once('-').unwrap_or((token, ""));
    let number = u64::from_str_radix(number, 16).unwrap_or_default();
    let near = (number.saturating_sub(3)..number + 4).flat_map(|near| {
        [format!("{near}"), format!("{near:x}-{tag}"), format!("{near:x}-0"), format!("{near:x}-{near:016x}")]
    });
    near.filter(|guess| guess != token).chain([tag.to_owned(), "0".to_owned(), "ffff".to_owned()]).collect()
}

async fn publish(nats: &async_nats::Client, to: &str, reply: Option<&str>, frame: Option<&str>, body: &'static str) {
    let mut headers = HeaderMap::new();
    if let Some(frame) = frame {
        headers.insert("Rpc-Stream", frame);
    }
    let (to, body) = (to.to_owned(), body.into());
    match reply {
        Some(reply) => nats.publish_with_reply_and_headers(to, reply.to_owned(), headers, body).await.unwrap(),
        None => nats.publish_with_headers(to, headers, body).await.unwrap(),
    }
    round_trip(nats).await;
}

/// Behind it, nats-server has passed on what `nats` published, and `nats` has what was sent to it.
async fn round_trip(nats: &async_nats::Client) {
    let inbox = nats.new_inbox();
    let mut own = nats.subscribe(inbox.clone()).await.unwrap();
    nats.publish(inbox, "".into()).await.unwrap();
    soon(own.next()).await.unwrap();
}

/// A call to a service that is played by the test, and the request that it got.
async fn call(
    client: &Client,
    calls: &mut async_nats::Subscriber,
) -> (tokio::task::JoinHandle<Result<u32, CallError>>, Message) {
    let client = client.clone();
    let call = tokio::spawn(async move { client.send::<u32>("fake.get", &()).await });
    (call, soon(calls.next()).await.unwrap())
}

#[tokio::test]
async fn guessed_repeated_and_late_replies_change_nothing() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.get").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await;

    let (first, request) = call(&client, &mut calls).await;
    let reply = request.reply.unwrap().to_string();
    let (inbox, token) = reply.rsplit_once('.').unwrap();
    for guess in guesses(token) {
        publish(&service, &format!("{inbox}.{guess}"), None, None, "666").await;
    }
    client.connection().round_trip(PATIENCE).await.unwrap();
    assert!(!first.is_finished(), "a guess was taken for the reply");
    publish(&service, &reply, None, None, "1").await;
    assert_eq!(soon(first).await.unwrap().unwrap(), 1, "the control: the token of the call");

    // The next call is not answered by the token of the one before.
    let (second, request) = call(&client, &mut calls).await;
    for _ in 0..3 {
        publish(&service, &reply, None, None, "666").await;
    }
    client.connection().round_trip(PATIENCE).await.unwrap();
    assert!(!second.is_finished(), "a reply to another call was taken for its own");
    let second_reply = request.reply.unwrap();
    publish(&service, &second_reply, None, None, "2").await;
    publish(&service, &second_reply, None, None, "666").await;
    assert_eq!(soon(second).await.unwrap().unwrap(), 2);

    // A reply that comes too late is nobody's.
    let hasty = client.timeout(Duration::from_millis(30));
    let (late, request) = call(&hasty, &mut calls).await;
    assert!(matches!(soon(late).await.unwrap(), Err(CallError::TimedOut { .. })));
    let (next, own) = call(&client, &mut calls).await;
    publish(&service, &request.reply.unwrap(), None, None, "666").await;
    publish(&service, &own.reply.unwrap(), None, None, "4").await;
    assert_eq!(soon(next).await.unwrap().unwrap(), 4);
}

/// A `cancel` goes where a frame says, so it is an answer to own calls alone.
#[tokio::test]
async fn frames_with_guessed_tokens_are_not_cancelled() {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.get").await.unwrap();
    let mut victim = service.subscribe("_INBOX.victim").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.item_timeout(Duration::from_millis(30));
    let gave_up = {
        let client = client.clone();
        tokio::spawn(async move { client.stream::<u32>("fake.get", &()).await.map(drop) })
    };
    let reply = soon(calls.next()).await.unwrap().reply.unwrap().to_string();
    soon(gave_up).await.unwrap().unwrap_err();
    let (inbox, token) = reply.rsplit_once('.').unwrap();
    for guess in guesses(token) {
        publish(&service, &format!("{inbox}.{guess}"), Some("_INBOX.victim"), Some("item 1"), "1").await;
    }
    client.connection().round_trip(PATIENCE).await.unwrap();
    round_trip(&service).await;
    assert!(victim.next().now_or_never().is_none(), "a stranger had the client publish");
    publish(&service, &reply, Some("$KV.trust.ring"), Some("item 1"), "1").await;
    publish(&service, &reply, Some("_INBOX.victim"), Some("item 1"), "1").await;
    let told = soon(victim.next()).await.unwrap();
    assert_eq!(told.headers.unwrap().get("Rpc-Stream").unwrap().as_str(), "cancel", "the control: its own call");
}

#[message_pattern("tokens.count")]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

#[tokio::test]
async fn forged_credit_and_cancel_do_not_reach_a_stream() {
    let server = server();
    let service = Service::new("tokens", "1.0.0").handlers(handlers![count]).start(nats(&server)).await.unwrap();
    let attacker = foreign(&server).await;
    // The attacker has a stream of its own, so it knows one token of the inbox.
    let inbox = attacker.new_inbox();
    let mut own = attacker.subscribe(inbox.clone()).await.unwrap();
    publish(&attacker, "tokens.count", Some(&inbox), Some("open 1"), "1000").await;
    let known = soon(own.next()).await.unwrap().reply.unwrap().to_string();
    let (credits, token) = known.rsplit_once('.').unwrap();

    let client = client(&server).await.window(4);
    let mut items = soon(client.stream::<u32>("tokens.count", &100)).await.unwrap();
    assert_eq!(soon(items.next()).await.unwrap().unwrap(), 1);
    for guess in guesses(token) {
        for frame in ["cancel", "credit 1000"] {
            publish(&attacker, &format!("{credits}.{guess}"), None, Some(frame), "").await;
        }
    }
    soon(service.connection().round_trip(PATIENCE)).await.unwrap();
    let rest: Vec<u32> = soon(items.map(Result::unwrap).collect()).await;
    assert_eq!(rest, Vec::from_iter(2..=100), "the stream of the client goes on, in its own pace");
    publish(&attacker, &known, None, Some("cancel"), "").await;
    soon(service.stop()).await;
}
