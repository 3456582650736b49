//! Several handlers for one event: each receives it once per service, however many instances run.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;

use nats_rpc::prelude::*;
use nats_rpc::{Client, NatsConfig};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserCreated {
    user_id: String,
}

type Log = mpsc::UnboundedSender<String>;

#[event_pattern("user.created")]
async fn welcome(State(log): State<Log>, Payload(event): Payload<UserCreated>) -> Result<(), RpcError> {
    log.send(format!("a mail for {}", event.user_id)).internal()
}

#[event_pattern("user.created")]
async fn index(State(log): State<Log>, Payload(event): Payload<UserCreated>) -> Result<(), RpcError> {
    log.send(format!("{} can be searched for", event.user_id)).internal()
}

/// This handler has no queue group: every instance receives the event.
#[event_pattern("cache.cleared", queue = none)]
async fn clear(State(log): State<Log>) -> Result<(), RpcError> {
    log.send("the cache is empty".to_owned()).internal()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (log, mut lines) = mpsc::unbounded_channel::<String>();
    let nats = NatsConfig::from_env()?;
    let service = Service::new("greeting", "1.0.0").handlers(handlers![welcome, index, clear]).provide(log);
    let running = service.start(nats.clone()).await?;

    let client = Client::connect(&nats).await?;
    client.emit("user.created", &UserCreated { user_id: "7".to_owned() }).await?;
    client.emit("cache.cleared", &()).await?;
    for _ in 0..3 {
        println!("{}", lines.recv().await.unwrap_or_default());
    }

    running.stop().await;
    Ok(())
}
