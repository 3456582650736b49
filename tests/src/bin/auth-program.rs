//! The auth service as a program, for tests of what its commands print and tell.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    auth::service(|name| std::env::var(name).ok()).main().await
}
