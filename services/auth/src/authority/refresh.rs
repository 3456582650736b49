//! Prolonging a session: everything that an answer needs is there before a token is used up.

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, Session, SessionError};

use super::remains::Written;
use super::{Authority, Tokens};
use crate::account::AccountKey;

/// Why there are no further tokens.
enum Refused {
    /// The refresh token is not good, or sessions are unavailable.
    Session(SessionError),
    /// There is nothing to answer with; the refresh token is as good as before.
    Unanswerable(RpcError),
}

impl From<SessionError> for Refused {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl Authority {
    /// Uses a refresh token up; 401 if it is none, or was used before. A 503 uses up nothing.
    ///
    /// The account is looked up anew: roles are those of now, and there is no session without an account, in
    /// a locked one, or in an epoch that the user, or everybody, has left.
    pub(crate) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, RpcError> {
        let parts = &*self.0;
        let access_token =
            |session| async move { self.next_access_token(&session).await.map_err(Refused::Unanswerable) };
        match parts.sessions.refresh_with(refresh_token, access_token).await {
            Ok((issued, access_token)) => {
                Ok(Tokens { access_token, refresh_token: issued.refresh_token, device_token: None })
            }
            Err(Refused::Unanswerable(error)) => Err(error),
            Err(Refused::Session(error)) => {
                if let SessionError::Reused(session) = &error {
                    let (user, sid) = (session.owner.user.clone(), session.id.clone());
                    parts.audit.emit(AuditEvent::TokenReused { user, sid });
                }
                Err(error.into())
            }
        }
    }

    /// The next access token of a session; `None` if it may not go on.
    async fn next_access_token(&self, session: &Session) -> Result<Option<String>, RpcError> {
        let (owner, accounts) = (&session.owner, &self.0.accounts);
        let key = AccountKey::remembered(owner.account.clone());
        let account = accounts.find(&key).await?;
        let global_epoch = self.global_epoch()?;
        let Some(account) = account.filter(|account| account.admits(owner, global_epoch)) else { return Ok(None) };
        // Of an account from before places were noted, the session alone knows where it is, and the token may outlive
        // it. One read more, and one write in an account's life.
        let place = accounts.note(&key, account.user_id).await?;
        if !self.still_stands(&key, account.user_id, Written { place, profile: false }).await? {
            return Ok(None);
        }
        self.access_token(session, &account, global_epoch).map(Some)
    }
}
