//! What the service answers.

use nats_rpc::prelude::*;

use crate::authority::{Authority, SignedIn, Tokens};

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

#[message_pattern("auth.signup")]
#[public]
async fn sign_up(
    State(authority): State<Authority>,
    Payload(Credentials { email, password }): Payload<Credentials>,
) -> Result<SignedIn, RpcError> {
    authority.sign_up(&email, &password).await
}

#[message_pattern("auth.login")]
#[public]
async fn log_in(
    State(authority): State<Authority>,
    Payload(Credentials { email, password }): Payload<Credentials>,
) -> Result<SignedIn, RpcError> {
    authority.log_in(&email, &password).await
}

#[message_pattern("auth.refresh")]
#[public]
async fn refresh(
    State(authority): State<Authority>,
    Payload(Refresh { refresh_token }): Payload<Refresh>,
) -> Result<Tokens, RpcError> {
    authority.refresh(&refresh_token).await
}

#[message_pattern("auth.logout")]
#[public]
async fn log_out(
    State(authority): State<Authority>,
    Payload(Refresh { refresh_token }): Payload<Refresh>,
) -> Result<(), RpcError> {
    authority.log_out(&refresh_token).await
}
