//! The gateway as a program: serves HTTP until SIGTERM or ctrl-c.

use std::process::ExitCode;

use gateway::{Config, Gateway, GatewayError};
use nats_rpc::NatsConfig;

#[tokio::main]
async fn main() -> ExitCode {
    nats_rpc::log_to_stderr("info");
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), GatewayError> {
    let config = Config::from_vars(|name| std::env::var(name).ok())?;
    let nats = NatsConfig::from_env()?;
    let gateway = tokio::select! {
        bound = Gateway::bind(config, nats) => bound?,
        () = gateway::stop_signal() => return Ok(()),
    };
    tracing::info!(address = %gateway.local_addr(), "ready");
    gateway.run_until(gateway::stop_signal()).await
}
