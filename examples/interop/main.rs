//! The counterpart of a NestJS service, handler for handler; it runs until SIGTERM or Ctrl-C.
//!
//! `WIRE` is `nest` or `auto` (the default).
#![allow(clippy::print_stdout, reason = "whoever started it waits for READY")]

use std::error::Error;

use nats_rpc::{NatsConfig, WireFormat};
use nats_rpc_examples::interop::services;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let wire = match std::env::var("WIRE").as_deref() {
        Ok("nest") => WireFormat::Nest,
        Ok("auto") | Err(_) => WireFormat::Auto,
        Ok(other) => return Err(format!("WIRE is {other:?}: it must be `nest` or `auto`").into()),
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut running = Vec::new();
    for service in services(wire) {
        running.push(service.start(NatsConfig::from_env()?).await?);
    }
    println!("READY {{\"pid\":{}}}", std::process::id());

    tokio::select! {
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    for service in running {
        service.stop().await;
    }
    Ok(())
}
