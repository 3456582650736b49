//! A user who tries what it likes, with a client that forbids nothing.

use async_nats::{Client, Event, ServerError};
use nats_rpc_tests::secured::Secured;
use tokio::sync::mpsc;

use crate::support::{PATIENCE, soon};

pub(crate) struct Intruder {
    pub(crate) nats: Client,
    errors: mpsc::UnboundedReceiver<String>,
}

impl Intruder {
    /// As `user` of `services/nats.conf`.
    pub(crate) async fn connect(secured: &Secured, user: &str) -> Self {
        Self::with(secured.options(user), &secured.server.url()).await
    }

    pub(crate) async fn with(options: async_nats::ConnectOptions, url: &str) -> Self {
        let (heard, errors) = mpsc::unbounded_channel();
        let options = options.event_callback(move |event| {
            if let Event::ServerError(ServerError::Other(text)) = event {
                let _ = heard.send(text);
            }
            std::future::ready(())
        });
        // On a machine that is busy, a handshake may take longer than the server waits for it.
        let nats = soon(options.retry_on_initial_connect().connect(url)).await.unwrap();
        soon(nats.flush()).await.unwrap();
        Self { nats, errors }
    }

    /// Publishes, and waits until the server has said that it may not.
    pub(crate) async fn may_not_publish(&mut self, subject: &str) {
        self.nats.publish(subject.to_owned(), "{}".into()).await.unwrap();
        self.is_told("Publish", subject).await;
    }

    /// Subscribes, with or without a queue group, and waits until the server has said that it may not.
    pub(crate) async fn may_not_subscribe(&mut self, subject: &str, queue: Option<&str>) {
        let _subscription = match queue {
            Some(queue) => self.nats.queue_subscribe(subject.to_owned(), queue.to_owned()).await.unwrap(),
            None => self.nats.subscribe(subject.to_owned()).await.unwrap(),
        };
        self.is_told("Subscription", subject).await;
    }

    pub(crate) async fn is_told(&mut self, verb: &str, subject: &str) {
        let complaint = tokio::time::timeout(PATIENCE, self.errors.recv()).await;
        let complaint =
            complaint.unwrap_or_else(|_| panic!("{verb} to {subject} is permitted")).unwrap().to_lowercase();
        let expected = format!("permissions violation for {verb} to \"{subject}\"").to_lowercase();
        assert!(complaint.contains(&expected), "{complaint:?} is not about {verb} to {subject}");
    }
}
