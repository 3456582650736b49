//! The auth service in a separate process, so that its threads can be measured alone.

use std::error::Error;
use std::io::{Read, stdin};
use std::process::Command;
use std::time::Duration;

use nats_rpc::NatsConfig;
use nats_rpc::testing::NatsServer;

use crate::child::{Child, READY};

/// The program argument that starts the service.
pub(crate) const NAME: &str = "auth-service";
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn start(server: &NatsServer) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(NAME).env("NATS_URL", server.url());
    Child::start(NAME, command, LIMIT)
}

/// Serves until the standard input closes.
pub(crate) fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let vars = |name: &str| match name {
        "JWT_SECRET" => Some(crate::token::SECRET.to_owned()),
        "JWT_REFRESH_SECRET" => Some("a pepper for benches alone, 32 bytes and more".to_owned()),
        "BCRYPT_COST" => Some("10".to_owned()),
        // The limits are raised, because the bench measures the work behind them.
        "SIGN_UPS_PER_MINUTE" | "LOG_INS_PER_MINUTE" => Some("60000".to_owned()),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let running = auth::service(vars).start(NatsConfig::new(url)).await?;
        println!("{READY}");
        tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new())).await??;
        running.stop().await;
        Ok(())
    })
}
