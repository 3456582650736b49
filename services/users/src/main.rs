//! The users service as a program: `serve`, `routes`, `provision`, `health`.

use std::process::ExitCode;

use nats_rpc::JwtGuard;

#[tokio::main]
async fn main() -> ExitCode {
    users::service(|name| std::env::var(name).ok()).guard(JwtGuard::from_env).main().await
}
