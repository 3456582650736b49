//! A service whose work cannot be cancelled, for tests of process shutdown.

use std::process::ExitCode;
use std::time::Duration;

use nats_rpc::Limits;
use nats_rpc::prelude::*;

#[message_pattern("stubborn.work")]
async fn work() -> Result<(), RpcError> {
    nats_rpc::spawn_blocking(|| {
        loop {
            std::thread::park();
        }
    })
    .await
}

#[message_pattern("stubborn.ping")]
async fn ping() -> &'static str {
    "pong"
}

/// `STUBBORN_DRAIN_MS` sets the time that a shutdown waits for handlers.
#[tokio::main]
async fn main() -> ExitCode {
    let drain = std::env::var("STUBBORN_DRAIN_MS").ok().and_then(|text| text.parse().ok()).unwrap_or(60_000);
    let limits = Limits { shutdown_timeout: Duration::from_millis(drain), ..Limits::default() };
    Service::new("stubborn", "1.0.0").handlers(handlers![work, ping]).limits(limits).main().await
}
