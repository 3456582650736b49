//! The gateway binary, with its commands `serve` and `permissions`.

use std::process::ExitCode;

use clap::Command;
use gateway::{Config, Gateway, GatewayError};
use nats_rpc::NatsConfig;

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::new("gateway")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The only HTTP of the system")
        .subcommand(Command::new("serve").about("Serve until SIGTERM or ctrl-c (the default)"))
        .subcommand(Command::new("permissions").about("Print what the user of nats-server needs"));
    if let Some("permissions") = command.get_matches().subcommand_name() {
        #[allow(clippy::print_stdout, reason = "it is what the command is for")]
        {
            print!("{}", gateway::permissions(|name| std::env::var(name).ok()));
        }
        return ExitCode::SUCCESS;
    }
    nats_rpc::log_to_stderr("info");
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), GatewayError> {
    let config = Config::from_vars(|name| std::env::var(name).ok())?;
    let nats = NatsConfig::from_env()?;
    let gateway = tokio::select! {
        bound = Gateway::bind(config, nats) => bound?,
        () = gateway::stop_signal() => return Ok(()),
    };
    tracing::info!(address = %gateway.local_addr(), "ready");
    gateway.serve_with_shutdown(gateway::stop_signal()).await
}
