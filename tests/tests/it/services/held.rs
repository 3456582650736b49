//! Writes that a test holds back, so that what races them has come to its end when they arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_nats::{Client, Message};
use futures::StreamExt;
use nats_rpc::testing::NatsServer;
use nats_rpc_tests::server_with;
use tokio::sync::mpsc;

use crate::support::{foreign, soon};

/// What is written to a bucket at keys of one form, on its way through the test's hands.
pub(super) struct Held {
    /// How many are let pass before the one that is held; below zero, all are.
    passing: Arc<AtomicI64>,
    caught: mpsc::UnboundedReceiver<Message>,
    nats: Client,
}

impl Held {
    /// A server with `keys`, such as `users.*`, of a bucket in the test's hands, which let everything pass at first.
    pub(super) async fn server(keys: &str) -> (NatsServer, Self) {
        let (fixed, _) = keys.rsplit_once('*').unwrap();
        // No mapping is applied to what another one gave.
        let config = format!(
            "accounts {{ A {{ jetstream: enabled, users: [{{ user: a, password: a }}], mappings: {{
               \"$KV.{keys}\": \"held.{fixed}{{{{wildcard(1)}}}}\", \"through.{keys}\": \"$KV.{fixed}{{{{wildcard(1)}}}}\"
             }} }} }}
             no_auth_user: a"
        );
        let server = server_with(|builder| builder.config(config));
        let nats = foreign(&server).await;
        let mut diverted = nats.subscribe("held.>").await.unwrap();
        nats.flush().await.unwrap();
        let (catch, caught) = mpsc::unbounded_channel();
        let held = Self { passing: Arc::new(AtomicI64::new(-1)), caught, nats: nats.clone() };
        let passing = held.passing.clone();
        tokio::spawn(async move {
            while let Some(message) = diverted.next().await {
                match passing.fetch_sub(1, Ordering::SeqCst) {
                    0 => catch.send(message).unwrap(),
                    _ => pass(&nats, message).await,
                }
            }
        });
        (server, held)
    }

    /// Holds the next write but `passing`, and gives it when it comes.
    pub(super) async fn hold(&mut self, passing: i64) -> Message {
        self.passing.store(passing, Ordering::SeqCst);
        soon(self.caught.recv()).await.unwrap()
    }

    /// Lets a write that was held arrive.
    pub(super) async fn release(&self, message: Message) {
        pass(&self.nats, message).await;
    }
}

async fn pass(nats: &Client, message: Message) {
    let subject = message.subject.replacen("held", "through", 1);
    let headers = message.headers.unwrap_or_default();
    nats.publish_with_reply_and_headers(subject, message.reply.unwrap(), headers, message.payload).await.unwrap();
}
