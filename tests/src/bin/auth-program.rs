//! The auth service as a program, for tests of the output and events of its commands.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    auth::service(|name| std::env::var(name).ok()).main().await
}
