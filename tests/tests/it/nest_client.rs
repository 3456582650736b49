//! Our client in NestJS's dialect, against answers that a NestJS service gave once, and others that it could.

mod answers;
mod captured;
mod ours;
mod sent;

use async_nats::HeaderMap;
use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;

use crate::support::soon;

/// Answers the next request to `subject` with `answers`, in which `id` stands for its id; gives the request.
async fn answer(
    service: &async_nats::Client,
    subject: &str,
    id: &str,
    answers: &[(HeaderMap, String)],
) -> tokio::task::JoinHandle<async_nats::Message> {
    let mut asked = service.subscribe(subject.to_owned()).await.unwrap();
    settled(service).await;
    let (service, id, answers) = (service.clone(), id.to_owned(), answers.to_vec());
    tokio::spawn(async move {
        let request = soon(asked.next()).await.unwrap();
        let body: Value = serde_json::from_slice(&request.payload).unwrap();
        if let Some(own) = body.get("id").and_then(Value::as_str) {
            let reply = request.reply.clone().unwrap();
            for (headers, answer) in answers {
                let answer = answer.replace(&id, own);
                service.publish_with_headers(reply.clone(), headers, answer.into()).await.unwrap();
            }
            service.flush().await.unwrap();
        }
        request
    })
}

/// Waits until nats-server has taken what was sent to it: it answers in order.
async fn settled(nats: &async_nats::Client) {
    soon(nats.request("settled.nobody", Bytes::new())).await.unwrap_err();
}
