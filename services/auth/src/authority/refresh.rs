//! Session refresh: collects everything that the reply needs before it uses up the refresh token.

use nats_rpc::RpcError;
use nats_rpc_auth::{AuditEvent, Session, SessionError};

use super::remains::Written;
use super::{Authority, Tokens};
use crate::account::AccountKey;

/// The reason why there are no further tokens.
enum Refused {
    /// The refresh token is invalid, or sessions are unavailable.
    Session(SessionError),
    /// The data for a reply is missing; the refresh token stays valid.
    Unanswerable(RpcError),
}

impl From<SessionError> for Refused {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl Authority {
    /// Exchanges a refresh token; 401 if it is invalid or was used before. A 503 leaves the token valid.
    ///
    /// The account is read again: the new token has the present roles. A session ends with its account, with a lock,
    /// and with a new epoch of the user or a new global epoch.
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

    /// Returns the next access token of a session; `None` if the session has ended.
    async fn next_access_token(&self, session: &Session) -> Result<Option<String>, RpcError> {
        let (owner, accounts) = (&session.owner, &self.0.accounts);
        let key = AccountKey::remembered(owner.account.clone());
        let account = accounts.find(&key).await?;
        let global_epoch = self.global_epoch()?;
        let Some(account) = account.filter(|account| account.admits(owner, global_epoch)) else { return Ok(None) };
        // An account from before index entries existed is known to the session alone, and the token may outlive the
        // session. This costs one more read, and one write in an account's life.
        let place = accounts.note(&key, account.user_id).await?;
        if !self.still_stands(&key, account.user_id, Written { place, profile: false }).await? {
            return Ok(None);
        }
        self.access_token(session, &account, global_epoch).map(Some)
    }
}
