//! Handlers about sessions and tokens, for users and for services.

use nats_rpc::prelude::*;
use nats_rpc_auth::{ServiceClaims, ServiceCredentials};
use nats_rpc_jwt::prelude::*;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};

use crate::authority::{Authority, Introspection, OwnSessions, Revocation};

#[message_pattern("auth.sessions")]
#[use_guards(JwtGuard)]
async fn sessions(Auth(me): Auth<UserClaims>, State(authority): State<Authority>) -> Result<OwnSessions, RpcError> {
    authority.sessions(&me).await
}

#[derive(JsonSchema, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
}

#[message_pattern("auth.sessions.end")]
#[use_guards(JwtGuard)]
async fn end_session(
    Auth(me): Auth<UserClaims>,
    State(authority): State<Authority>,
    Payload(Session { session_id }): Payload<Session>,
) -> Result<(), RpcError> {
    authority.end_session(&me, &session_id).await
}

#[message_pattern("auth.logout_all")]
#[use_guards(JwtGuard)]
async fn log_out_everywhere(Auth(me): Auth<UserClaims>, State(authority): State<Authority>) -> Result<(), RpcError> {
    authority.log_out_everywhere(&me).await
}

#[derive(JsonSchema, Deserialize)]
struct Token {
    #[schemars(with = "String")]
    token: SecretString,
}

#[message_pattern("auth.introspect")]
#[use_guards(ServiceCredentials, RequireScope::new("introspect"))]
async fn introspect(
    State(authority): State<Authority>,
    State(guard): State<JwtGuard>,
    Payload(Token { token }): Payload<Token>,
) -> Result<Introspection, RpcError> {
    authority.introspect(&guard, token.expose_secret()).await
}

#[message_pattern("auth.revoke")]
#[use_guards(ServiceCredentials, RequireScope::new("revoke"))]
async fn revoke(
    Auth(service): Auth<ServiceClaims>,
    State(authority): State<Authority>,
    State(guard): State<JwtGuard>,
    Payload(what): Payload<Revocation>,
) -> Result<(), RpcError> {
    tracing::info!(service = service.name, "a service revokes");
    authority.revoke(&guard, what).await
}
