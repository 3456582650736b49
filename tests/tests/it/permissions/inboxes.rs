//! Who reads what, and who may answer.

use futures::{Stream, StreamExt, stream};
use nats_rpc::prelude::*;
use nats_rpc::{Client, NatsConfig};
use nats_rpc_tests::secured::{Layout, Secured};

use super::Intruder;
use crate::support::{PATIENCE, soon};

#[tokio::test]
async fn nobody_reads_the_answers_to_others() {
    for layout in Layout::ALL {
        only_own_inboxes_are_read_and_written(layout).await;
    }
}

async fn only_own_inboxes_are_read_and_written(layout: Layout) {
    let secured = Secured::start_with(layout);
    // The auditor publishes nothing and has no inbox.
    let users: Vec<String> = layout.users().filter(|user| user != "auditor").collect();
    for user in &users {
        let mut intruder = Intruder::connect(&secured, user).await;
        let own = format!("_INBOX_{user}.mine");
        let mut inbox = intruder.nats.subscribe(own.clone()).await.unwrap();
        intruder.nats.publish(own, "to myself".into()).await.unwrap();
        assert_eq!(soon(inbox.next()).await.unwrap().payload, "to myself");
        for other in users.iter().filter(|other| *other != user) {
            intruder.may_not_subscribe(&format!("_INBOX_{other}.>"), None).await;
            intruder.may_not_publish(&format!("_INBOX_{other}.mine")).await;
        }
        for wide in [">", "*", "*.*", "_INBOX.>", "$KV.>", "$JS.>", "$SRV.>"] {
            intruder.may_not_subscribe(wide, None).await;
        }
    }
}

#[tokio::test]
async fn requests_go_to_the_queue_group_of_their_service_and_to_nobody_beside_it() {
    for layout in Layout::ALL {
        requests_go_to_their_queue_group(layout).await;
    }
}

async fn requests_go_to_their_queue_group(layout: Layout) {
    let secured = Secured::start_with(layout);
    let mut users = Intruder::connect(&secured, "users").await;
    let mut requests = users.nats.queue_subscribe("get_user_profile", "users".to_owned()).await.unwrap();
    soon(users.nats.flush()).await.unwrap();
    users.may_not_subscribe("get_user_profile", None).await;
    users.may_not_subscribe("get_user_profile", Some("listeners")).await;
    users.may_not_subscribe("auth.login", Some("auth")).await;
    users.may_not_subscribe("$SRV.INFO.auth", None).await;
    for user in ["gateway", "client", "verifier", "monitor", "deploy"] {
        let mut intruder = Intruder::connect(&secured, user).await;
        intruder.may_not_subscribe("get_user_profile", Some("users")).await;
        intruder.may_not_subscribe("auth.login", None).await;
    }
    let client = Intruder::connect(&secured, "client").await;
    client.nats.publish("get_user_profile", "control".into()).await.unwrap();
    assert_eq!(soon(requests.next()).await.unwrap().payload, "control");
}

#[tokio::test]
async fn an_answer_goes_to_whoever_asked_once_and_to_nobody_else() {
    for layout in Layout::ALL {
        reply_goes_to_the_sender_once(layout).await;
    }
}

async fn reply_goes_to_the_sender_once(layout: Layout) {
    let secured = Secured::start_with(layout);
    let mut users = Intruder::connect(&secured, "users").await;
    let mut requests = users.nats.queue_subscribe("get_user_profile", "users".to_owned()).await.unwrap();
    users.nats.publish("_INBOX_users.echo", "".into()).await.unwrap();
    let gateway = Intruder::connect(&secured, "gateway").await;
    let mut answers = gateway.nats.subscribe("_INBOX_gateway.1").await.unwrap();

    users.may_not_publish("_INBOX_gateway.1").await;
    // The server takes requests once it has the subscription, which the denied message proves it has.
    gateway.nats.publish_with_reply("get_user_profile", "_INBOX_gateway.1", "".into()).await.unwrap();
    let reply = soon(requests.next()).await.unwrap().reply.unwrap();
    users.nats.publish(reply, "the answer".into()).await.unwrap();
    assert_eq!(soon(answers.next()).await.unwrap().payload, "the answer");
    users.may_not_publish("_INBOX_gateway.1").await;
    users.may_not_publish("_INBOX_gateway.2").await;
}

#[tokio::test]
async fn a_star_at_the_end_of_an_allowed_subject_allows_all_below_it_too() {
    let config =
        r#"authorization { users: [ { user: u, password: p, permissions: { subscribe: ["a.*", "_INBOX.>"] } } ] }"#;
    let server = nats_rpc_tests::server_with(|builder| builder.config(config));
    let login = async_nats::ConnectOptions::with_user_and_password("u".to_owned(), "p".to_owned());
    let mut intruder = Intruder::with(login, &server.url()).await;
    let mut wide = intruder.nats.subscribe("a.>").await.unwrap();
    intruder.may_not_subscribe("a.b.*", None).await;
    intruder.nats.publish("a.b.c", "not meant to be read".into()).await.unwrap();
    // Why services/nats.conf names the verbs of `$SRV` one by one. If this fails, nats-server has mended it.
    assert_eq!(soon(wide.next()).await.unwrap().payload, "not meant to be read");
}

#[message_pattern("permitted.count")]
#[public]
async fn count(Payload(last): Payload<u32>) -> Streaming<impl Stream<Item = Result<u32, RpcError>>> {
    Streaming::new(stream::iter((1..=last).map(Ok)))
}

#[tokio::test]
async fn a_stream_takes_many_answers_from_both_sides() {
    let config = r#"authorization { users: [
        { user: service, password: s, permissions: {
            publish: ["_INBOX_s.>"], subscribe: ["_INBOX_s.>", "permitted.count s", "$SRV.>"]
            allow_responses: { max: -1, expires: "60s" }
        } }
        { user: caller, password: c, permissions: {
            publish: ["_INBOX.>", "permitted.count"], subscribe: ["_INBOX.>"]
            allow_responses: { max: -1, expires: "60s" }
        } }
    ] }"#;
    let server = nats_rpc_tests::server_with(|builder| builder.config(config));
    let nats = NatsConfig::new(server.url());
    let service = Service::new("s", "1.0.0").handlers(handlers![count]);
    let _running = soon(service.start(nats.clone().user("service", "s"))).await.unwrap();
    let client = soon(Client::connect(&nats.user("caller", "c"))).await.unwrap().timeout(PATIENCE);
    // Far more than a stream sends before its caller has to grant more.
    let items = soon(client.stream::<u32>("permitted.count", &5_000)).await.unwrap();
    let items: Vec<u32> = soon(items.map(Result::unwrap).collect()).await;
    assert_eq!(items, Vec::from_iter(1..=5_000));
}
