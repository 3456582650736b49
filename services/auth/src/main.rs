//! The auth service as a program: `serve`, `routes`, `provision`, `health`, `roles`.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    auth::service(|name| std::env::var(name).ok()).main().await
}
