//! Callers and services that speak the protocol by hand, as no library of ours would.

use super::*;

pub(super) async fn publish(
    nats: &async_nats::Client,
    to: &str,
    reply: Option<&str>,
    frame: &str,
    body: impl Into<bytes::Bytes>,
) {
    let mut headers = HeaderMap::new();
    if !frame.is_empty() {
        headers.insert("Rpc-Stream", frame);
    }
    if frame.starts_with("error") {
        headers.insert("Nats-Service-Error", "no");
        headers.insert("Nats-Service-Error-Code", "409");
    }
    let (to, body) = (to.to_owned(), body.into());
    match reply {
        Some(reply) => nats.publish_with_reply_and_headers(to, reply.to_owned(), headers, body).await.unwrap(),
        None => nats.publish_with_headers(to, headers, body).await.unwrap(),
    }
    nats.flush().await.unwrap();
}

pub(super) fn frame(message: &Message) -> &str {
    message.headers.as_ref().and_then(|headers| headers.get("Rpc-Stream")).map_or("", |value| value.as_str())
}

/// A service that does as it is told.
pub(super) struct Fake {
    pub(super) nats: async_nats::Client,
    pub(super) caller: String,
    pub(super) address: String,
    pub(super) credit: Subscriber,
    /// Whose inbox is to stay.
    pub(super) client: Option<Client>,
}

impl Fake {
    pub(super) async fn new(nats: &async_nats::Client, caller: async_nats::Subject) -> Self {
        let address = nats.new_inbox();
        let credit = nats.subscribe(address.clone()).await.unwrap();
        Self { nats: nats.clone(), caller: caller.to_string(), address, credit, client: None }
    }

    pub(super) async fn say(&mut self, frame: &str, body: &'static str) {
        publish(&self.nats, &self.caller, Some(&self.address), frame, body).await;
    }

    pub(super) async fn heard(&mut self) -> String {
        frame(&soon(self.credit.next()).await.unwrap()).to_owned()
    }
}

/// A call to a fake service, which has answered with one item.
pub(super) async fn faked() -> (NatsServer, nats_rpc::ResponseStream<u32>, Fake) {
    let server = server();
    let service = foreign(&server).await;
    let mut calls = service.subscribe("fake.stream").await.unwrap();
    service.flush().await.unwrap();
    let client = client(&server).await.window(4).item_timeout(PATIENCE);
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.stream::<u32>("fake.stream", &()).await.unwrap() }
    });
    let asked = soon(calls.next()).await.unwrap();
    assert_eq!(frame(&asked), "open 4");
    let mut fake = Fake::new(&service, asked.reply.unwrap()).await;
    fake.client = Some(client);
    fake.say("item 1", "1").await;
    (server, soon(call).await.unwrap(), fake)
}
