//! The users service binary, with its commands `serve`, `routes`, `provision` and `health`.

use std::process::ExitCode;

use nats_rpc_jwt::JwtGuard;

#[tokio::main]
async fn main() -> ExitCode {
    let service = users::service(|name| std::env::var(name).ok());
    service.check(JwtGuard::check_env).guard(JwtGuard::from_env).main().await
}
