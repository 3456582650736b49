//! The possible outcomes of a call.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;
use std::time::Duration;

use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client, NatsConfig};

#[message_pattern("clock.wait")]
async fn wait(Payload(millis): Payload<u64>) -> u64 {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    millis
}

#[message_pattern("clock.echo")]
async fn echo(headers: Headers) -> Option<String> {
    headers.get("x-request-id").map(ToOwned::to_owned)
}

async fn explain(client: &Client, subject: &str, data: &str) {
    let data: &serde_json::value::RawValue = match serde_json::from_str(data) {
        Ok(data) => data,
        Err(error) => return println!("{data}: {error}"),
    };
    match client.send::<u64>(subject, data).await {
        Ok(value) => println!("{subject}: {value}"),
        Err(CallError::Remote(error)) => println!("{subject}: answered with {error}"),
        Err(CallError::NoResponders { .. }) => println!("{subject}: nobody listens; nothing was executed"),
        Err(CallError::TimedOut { after, .. }) => println!("{subject}: silent for {after:.0?}; it may have executed"),
        Err(other) => println!("{subject}: {other}"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nats = NatsConfig::from_env()?;
    let running = Service::new("clock", "1.0.0").handlers(handlers![wait, echo]).start(nats.clone()).await?;

    // Every call has a deadline that propagates with it: the service cancels a handler when its caller no longer
    // waits.
    let client = Client::connect(&nats).await?.timeout(Duration::from_millis(200));
    explain(&client, "clock.wait", "1").await;
    explain(&client, "clock.wait", "5000").await;
    explain(&client, "clock.wait", r#""soon""#).await;
    explain(&client, "clock.stop", "1").await;

    let id: Option<String> = client.header("X-Request-Id", "r-1").send("clock.echo", &()).await?;
    println!("the service saw request {id:?}");

    running.stop().await;
    Ok(())
}
