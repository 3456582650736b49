//! A handler, a service, and a call.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;

use nats_rpc::prelude::*;
use nats_rpc::{Client, NatsConfig};

/// Replies to requests to `greet.ada`, `greet.grace`, …
#[message_pattern("greet.{name}")]
async fn greet(Param(name): Param<String>) -> String {
    format!("Hello, {name}!")
}

/// Returns the service, for `main` and for tests.
pub fn service() -> Service {
    Service::new("greeter", env!("CARGO_PKG_VERSION")).handlers(handlers![greet])
}

// A program that only runs a service ends its `main` with `service().main().await` instead.
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let nats = NatsConfig::from_env()?;
    let running = service().start(nats.clone()).await?;

    let client = Client::connect(&nats).await?;
    let greeting: String = client.send("greet.ada", &()).await?;
    println!("{greeting}");

    running.stop().await;
    Ok(())
}
