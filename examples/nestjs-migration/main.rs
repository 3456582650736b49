//! Runs the service of `users.rs` for the gateway in the same folder: `NATS_URL`, `JWT_SECRET`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let secret = std::env::var("JWT_SECRET").unwrap_or_default();
    match nats_rpc_examples::nestjs_migration::service(&secret) {
        Ok(service) => service.main().await,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
