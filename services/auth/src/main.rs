//! The auth service binary, with its commands `serve`, `routes`, `provision`, `health` and `roles`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    auth::service(|name| std::env::var(name).ok()).main().await
}
