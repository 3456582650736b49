//! Operations for services with a credential: token introspection and revocation.

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, SessionError};
use nats_rpc_jwt::JwtGuard;
use nats_rpc_jwt::JwtRejection;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use users::UserId;

use super::Authority;
use super::sessions::{goes_on, seconds};
use crate::account::AccountKey;

/// Prefix of refresh tokens; no access token begins with it.
const REFRESH_TOKEN: &str = "nrt1.";

/// The result of a token introspection (RFC 7662, section 2.2).
#[derive(Debug, Default, JsonSchema, Serialize)]
pub(crate) struct Introspection {
    /// `true` if the token is valid now. The reply about an invalid token contains nothing else.
    active: bool,
    #[serde(flatten)]
    known: Option<Known>,
}

#[derive(Debug, JsonSchema, Serialize)]
struct Known {
    token_type: &'static str,
    sub: String,
    exp: u64,
    iat: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(flatten)]
    of_access: Option<OfAccess>,
}

/// Claims that only access tokens have.
#[derive(Debug, Deserialize, JsonSchema, Serialize)]
struct OfAccess {
    iss: String,
    aud: serde_json::Value,
    jti: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    scope: String,
}

#[derive(Deserialize)]
struct AccessClaims {
    sub: String,
    exp: u64,
    iat: u64,
    sid: Option<String>,
    #[serde(flatten)]
    rest: OfAccess,
}

/// The target of a revocation: exactly one of these fields.
#[derive(JsonSchema, Deserialize)]
pub(crate) struct Revocation {
    /// An access or a refresh token (RFC 7009).
    #[schemars(with = "Option<String>")]
    token: Option<SecretString>,
    /// All tokens and sessions of a user.
    sub: Option<String>,
    /// A session.
    sid: Option<String>,
    /// One access token.
    jti: Option<String>,
}

impl Authority {
    /// Introspects `token`. `guard` verifies access tokens as every service does.
    pub(crate) async fn introspect(&self, guard: &JwtGuard, token: &str) -> Result<Introspection, RpcError> {
        let known = match token.starts_with(REFRESH_TOKEN) {
            true => self.refresh_token(token).await?,
            false => access_token(guard, token).await?,
        };
        Ok(Introspection { active: known.is_some(), known })
    }

    async fn refresh_token(&self, token: &str) -> Result<Option<Known>, RpcError> {
        let live = match self.0.sessions.get(token).await {
            Ok(live) => live,
            Err(SessionError::Invalid) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let key = AccountKey::remembered(live.session.owner.account.clone());
        let account = self.0.accounts.find(&key).await?;
        let global_epoch = self.global_epoch()?;
        Ok(account.filter(|account| goes_on(&live, account, global_epoch)).map(|_| Known {
            token_type: "refresh_token",
            exp: seconds(live.expires_at),
            iat: seconds(live.refreshed_at),
            sub: live.session.owner.user,
            sid: Some(live.session.id),
            of_access: None,
        }))
    }

    /// Revokes; an unknown or ended token is no error (RFC 7009, section 2.2).
    pub(crate) async fn revoke(&self, guard: &JwtGuard, what: Revocation) -> Result<(), RpcError> {
        match what {
            Revocation { token: Some(token), sub: None, sid: None, jti: None } => {
                let token = token.expose_secret();
                if token.starts_with(REFRESH_TOKEN) {
                    return self.log_out(token).await;
                }
                match access_token(guard, token).await?.and_then(|known| known.of_access) {
                    Some(OfAccess { jti, .. }) => self.revoke_token(jti).await,
                    None => Ok(()),
                }
            }
            Revocation { token: None, sub: Some(sub), sid: None, jti: None } => self.revoke_user(&sub).await,
            Revocation { token: None, sub: None, sid: Some(sid), jti: None } => self.revoke_session(&sid).await,
            Revocation { token: None, sub: None, sid: None, jti: Some(jti) } => self.revoke_token(jti).await,
            _ => Err(RpcError::invalid_argument("exactly one of token, sub, sid and jti is revoked at a time")),
        }
    }

    async fn revoke_token(&self, jti: String) -> Result<(), RpcError> {
        self.0.revoker.token(&jti).await?;
        self.0.audit.emit(AuditEvent::TokenRevoked { jti });
        Ok(())
    }

    async fn revoke_session(&self, sid: &str) -> Result<(), RpcError> {
        let user = match self.0.sessions.revoke_by_id(sid).await {
            Ok(session) => session.map(|session| session.owner.user),
            // No event for text that cannot be an id: it may be a misplaced secret.
            Err(SessionError::Invalid) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.0.audit.emit(AuditEvent::SessionRevoked { sid: sid.to_owned(), user });
        Ok(())
    }

    async fn revoke_user(&self, sub: &str) -> Result<(), RpcError> {
        let unknown = || RpcError::not_found("no such user");
        let user = UserId::parse(sub).ok_or_else(unknown)?;
        let (key, _) = self.account_of(user).await?.ok_or_else(unknown)?;
        self.log_out_user(key, user).await?.map(drop).ok_or_else(unknown)
    }
}

/// Returns the claims of a valid access token; an error if its validity cannot be decided. Its key may be newer than
/// the keys that this instance has.
async fn access_token(guard: &JwtGuard, token: &str) -> Result<Option<Known>, RpcError> {
    match guard.claims_async::<AccessClaims>(token).await {
        Ok(AccessClaims { sub, exp, iat, sid, rest }) => {
            Ok(Some(Known { token_type: "Bearer", sub, exp, iat, sid, of_access: Some(rest) }))
        }
        Err(refusal @ (JwtRejection::NoKeys | JwtRejection::StaleRevocations)) => Err(refusal.into()),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_token_that_is_not_good_nothing_is_told() {
        assert_eq!(serde_json::to_string(&Introspection::default()).unwrap(), r#"{"active":false}"#);
    }
}
