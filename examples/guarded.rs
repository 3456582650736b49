//! Tokens, scopes, and public handlers.
#![allow(clippy::print_stdout, reason = "a lesson speaks")]

use std::error::Error;

use nats_rpc::prelude::*;
use nats_rpc::{CallError, Client, NatsConfig};
use nats_rpc_auth::{Grant, TokenIssuer};
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{JwtConfig, SecretKey};

#[message_pattern("notes.mine")]
#[use_guards(JwtGuard, RequireScope::new("notes:read"))]
async fn mine(Auth(me): Auth<UserClaims>) -> String {
    format!("the notes of {}", me.sub)
}

#[message_pattern("notes.purge")]
#[use_guards(JwtGuard, RequireRole::new("admin"))]
async fn purge() {}

/// Without `#[public]` the service would not start, because its other handlers are guarded.
#[message_pattern("notes.count")]
#[public]
async fn count() -> u32 {
    3
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // A real program reads its secret from the environment: `.guard(JwtGuard::from_env)`.
    let secret = SecretKey::new("JWT_SECRET", "a secret for a lesson, 32 bytes and more")?;
    let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret.clone()))?;
    let token = TokenIssuer::hs256(&secret).issue(&Grant::new("ada", "session-1").scope("notes:read"))?;

    let nats = NatsConfig::from_env()?;
    let service = Service::new("notes", "1.0.0").handlers(handlers![mine, purge, count]).guard(guard);
    let running = service.start(nats.clone()).await?;

    let anybody = Client::connect(&nats).await?;
    let ada = anybody.bearer(&token);
    println!("{} in all", anybody.send::<u32>("notes.count", &()).await?);
    println!("{}", ada.send::<String>("notes.mine", &()).await?);
    explain("without a token", anybody.send("notes.mine", &()).await);
    explain("without the role", ada.send("notes.purge", &()).await);

    running.stop().await;
    Ok(())
}

fn explain(who: &str, outcome: Result<(), CallError>) {
    match outcome {
        Ok(()) => println!("{who}: done"),
        Err(error) => println!("{who}: {error}"),
    }
}
