//! A caller's own sessions: listing and ending them.

use std::time::{SystemTime, UNIX_EPOCH};

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, SessionError, SessionInfo};
use nats_rpc_jwt::UserClaims;
use schemars::JsonSchema;
use serde::Serialize;

use super::Authority;
use crate::account::Account;

/// The caller's sessions, the newest first.
#[derive(JsonSchema, Serialize)]
pub(crate) struct OwnSessions {
    sessions: Vec<OwnSession>,
}

/// Times are seconds since 1970.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnSession {
    id: String,
    /// `true` if the caller's token belongs to this session.
    current: bool,
    created_at: u64,
    refreshed_at: u64,
    expires_at: u64,
}

impl Authority {
    /// Returns the caller's sessions.
    pub(crate) async fn sessions(&self, me: &UserClaims) -> Result<OwnSessions, RpcError> {
        let (_, account) = self.own_account(me).await?;
        let live = self.0.sessions.list(&me.sub).await?;
        let global_epoch = self.global_epoch()?;
        let going_on = live.into_iter().filter(|live| goes_on(live, &account, global_epoch));
        Ok(OwnSessions { sessions: going_on.map(|live| OwnSession::new(live, me.sid.as_deref())).collect() })
    }

    /// Ends one of the caller's sessions; 404 if the caller has no session of this id.
    pub(crate) async fn end_session(&self, me: &UserClaims, id: &str) -> Result<(), RpcError> {
        match self.0.sessions.revoke(&me.sub, id).await {
            Ok(session) => {
                self.0.audit.emit(AuditEvent::LoggedOut { user: session.owner.user, sid: session.id });
                Ok(())
            }
            Err(SessionError::Invalid) => Err(RpcError::not_found("no such session")),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends every session and token of the caller, including the one of this call.
    pub(crate) async fn log_out_everywhere(&self, me: &UserClaims) -> Result<(), RpcError> {
        let gone = || RpcError::unauthenticated("there is no such account any more");
        let (key, account) = self.own_account(me).await?;
        self.log_out_user(key, account.user_id).await?.map(drop).ok_or_else(gone)
    }
}

impl OwnSession {
    fn new(live: SessionInfo, current: Option<&str>) -> Self {
        Self {
            current: current == Some(live.session.id.as_str()),
            created_at: seconds(live.created_at),
            refreshed_at: seconds(live.refreshed_at),
            expires_at: seconds(live.expires_at),
            id: live.session.id,
        }
    }
}

/// Returns `true` if neither the user's account nor the global epoch has ended the session.
pub(super) fn goes_on(live: &SessionInfo, account: &Account, global_epoch: u64) -> bool {
    account.admits(&live.session.owner, global_epoch)
}

/// Returns seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
