//! The handlers of the service. Passwords and tokens arrive in a type that cannot be printed.

use nats_rpc::prelude::*;
use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{ClientIp, JwkSet};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};

use crate::authority::{Authority, SignedUp, Tokens};
use crate::caller::Caller;

#[derive(JsonSchema, Deserialize)]
struct Credentials {
    email: String,
    #[schemars(with = "String")]
    password: SecretString,
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refresh {
    #[schemars(with = "String")]
    refresh_token: SecretString,
}

#[message_pattern("auth.signup")]
#[public]
async fn sign_up(
    State(authority): State<Authority>,
    peer: ClientIp,
    context: Context,
    Payload(Credentials { email, password }): Payload<Credentials>,
) -> Result<SignedUp, RpcError> {
    authority.sign_up(&email, password.expose_secret(), &Caller::new(peer, &context)).await
}

#[message_pattern("auth.login")]
#[public]
async fn log_in(
    State(authority): State<Authority>,
    peer: ClientIp,
    context: Context,
    Payload(Credentials { email, password }): Payload<Credentials>,
) -> Result<Tokens, RpcError> {
    authority.log_in(&email, password.expose_secret(), &Caller::new(peer, &context)).await
}

#[message_pattern("auth.refresh")]
#[public]
async fn refresh(
    State(authority): State<Authority>,
    Payload(Refresh { refresh_token }): Payload<Refresh>,
) -> Result<Tokens, RpcError> {
    authority.refresh(refresh_token.expose_secret()).await
}

#[message_pattern("auth.logout")]
#[public]
async fn log_out(
    State(authority): State<Authority>,
    Payload(Refresh { refresh_token }): Payload<Refresh>,
) -> Result<(), RpcError> {
    authority.log_out(refresh_token.expose_secret()).await
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PasswordChange {
    #[schemars(with = "String")]
    current_password: SecretString,
    #[schemars(with = "String")]
    new_password: SecretString,
}

#[message_pattern("auth.password.change")]
#[use_guards(JwtGuard)]
async fn change_password(
    Auth(me): Auth<UserClaims>,
    State(authority): State<Authority>,
    peer: ClientIp,
    context: Context,
    Payload(PasswordChange { current_password, new_password }): Payload<PasswordChange>,
) -> Result<Tokens, RpcError> {
    authority
        .change_password(
            &me,
            current_password.expose_secret(),
            new_password.expose_secret(),
            &Caller::new(peer, &context),
        )
        .await
}

#[derive(JsonSchema, Deserialize)]
struct ResetRequest {
    email: String,
}

#[message_pattern("auth.password.reset.request")]
#[public]
async fn request_reset(
    State(authority): State<Authority>,
    peer: ClientIp,
    context: Context,
    Payload(ResetRequest { email }): Payload<ResetRequest>,
) -> Result<(), RpcError> {
    authority.request_reset(&email, &Caller::new(peer, &context)).await
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResetConfirmation {
    #[schemars(with = "String")]
    token: SecretString,
    #[schemars(with = "String")]
    new_password: SecretString,
}

#[message_pattern("auth.password.reset.confirm")]
#[public]
async fn confirm_reset(
    State(authority): State<Authority>,
    peer: ClientIp,
    context: Context,
    Payload(ResetConfirmation { token, new_password }): Payload<ResetConfirmation>,
) -> Result<(), RpcError> {
    authority.confirm_reset(token.expose_secret(), new_password.expose_secret(), &Caller::new(peer, &context)).await
}

#[message_pattern("auth.jwks")]
#[public]
async fn public_keys(State(authority): State<Authority>) -> JwkSet {
    authority.public_keys()
}
