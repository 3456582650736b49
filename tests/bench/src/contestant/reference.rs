//! Hand-written loops, the reference for frameworks.

use std::error::Error;
use std::sync::Arc;

use async_nats::service::ServiceExt;
use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Semaphore;

use super::{Contestant, Job, User, Work, ready};

pub(super) async fn run(job: &Job, url: &str) -> Result<(), Box<dyn Error>> {
    let client = async_nats::connect(url).await?;
    let (contestant, work) = (job.contestant, job.work);
    let limit = job.concurrency;
    if contestant == Contestant::Service {
        return service(client, job.subject(), work).await;
    }
    let messages = client.queue_subscribe(job.subject(), "q".to_owned()).await?;
    client.flush().await?;
    let serve = async move {
        match contestant {
            Contestant::Floor => floor(client, messages).await,
            Contestant::Fu => futures_unordered(client, messages, work, limit).await,
            Contestant::Spawn => spawn(client, messages, work, limit).await,
            _ => serial(client, messages, work).await,
        }
    };
    // In a task, like the loops of a real service.
    tokio::spawn(serve);
    ready().await
}

/// Handles one message, the same way in every loop.
async fn answer(client: &Client, message: Message, work: Work) {
    let Some(reply) = message.reply else { return };
    let Ok(user) = serde_json::from_slice::<User>(&message.payload) else { return };
    work.done().await;
    let Ok(answer) = serde_json::to_vec(&user) else { return };
    let _ = client.publish(reply, answer.into()).await;
}

async fn floor(client: Client, mut messages: Subscriber) {
    while let Some(message) = messages.next().await {
        if let Some(reply) = message.reply {
            let _ = client.publish(reply, message.payload).await;
        }
    }
}

async fn serial(client: Client, mut messages: Subscriber, work: Work) {
    while let Some(message) = messages.next().await {
        answer(&client, message, work).await;
    }
}

async fn futures_unordered(client: Client, mut messages: Subscriber, work: Work, limit: usize) {
    let mut waiting = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = waiting.next(), if !waiting.is_empty() => {}
            message = messages.next(), if waiting.len() < limit => {
                let Some(message) = message else { return };
                let client = client.clone();
                waiting.push(async move { answer(&client, message, work).await });
            }
        }
    }
}

async fn spawn(client: Client, mut messages: Subscriber, work: Work, limit: usize) {
    let permits = Arc::new(Semaphore::new(limit));
    while let Some(message) = messages.next().await {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let client = client.clone();
        tokio::spawn(async move {
            answer(&client, message, work).await;
            drop(permit);
        });
    }
}

async fn service(client: Client, subject: String, work: Work) -> Result<(), Box<dyn Error>> {
    let boxed = |error| -> Box<dyn Error> { error };
    let service = client.service_builder().start("bench", "1.0.0").await.map_err(|error| boxed(error))?;
    let mut requests = service.endpoint(subject).await.map_err(|error| boxed(error))?;
    client.flush().await?;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let Ok(user) = serde_json::from_slice::<User>(&request.message.payload) else { return };
            work.done().await;
            let Ok(answer) = serde_json::to_vec(&user) else { return };
            let _ = request.respond(Ok(answer.into())).await;
        }
    });
    let outcome = ready().await;
    drop(service);
    outcome
}
