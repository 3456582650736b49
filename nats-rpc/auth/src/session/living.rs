//! The sessions that a user has: what they are, and how they are ended without a token of theirs.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;

use super::record::Record;
use super::{Session, SessionError, SessionId, Sessions};

/// A session that goes on, as its user may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session.
    pub session: Session,
    /// When it began.
    pub created_at: SystemTime,
    /// When it was last refreshed; when it began if it never was.
    pub refreshed_at: SystemTime,
    /// When it ends unless it is refreshed.
    pub expires_at: SystemTime,
}

impl SessionInfo {
    pub(super) fn new(id: SessionId, record: Record) -> Self {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        Self {
            created_at: at(record.begun_at),
            refreshed_at: at(record.rotated_at),
            expires_at: at(record.expiry()),
            session: Session { id: id.to_string(), owner: record.owner },
        }
    }
}

impl Sessions {
    /// The sessions that `user` has, the newest first. One that has ended by an epoch is among them until
    /// it is used, removed or expired: whoever knows the epochs leaves it out.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if the bucket does not answer.
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>, SessionError> {
        let live = self.live(user).await?;
        Ok(live.into_iter().map(|(id, record)| SessionInfo::new(id, record)).collect())
    }

    /// Ends one session of `user`, by its id, with its access tokens.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if the user has no such session, [`SessionError::Unavailable`] if the bucket
    /// does not answer.
    pub async fn revoke(&self, user: &str, id: &str) -> Result<Session, SessionError> {
        let id = SessionId::parse(id).ok_or(SessionError::Invalid)?;
        let (record, _) = self.bucket.read(id).await?.ok_or(SessionError::Invalid)?;
        if record.owner.user != user || self.has_expired(&record) {
            return Err(SessionError::Invalid);
        }
        self.finish(id, record).await
    }

    /// Ends the session with this id, whosever it is, with its access tokens; `None` if there is none.
    ///
    /// Tokens of a session that has ended already are revoked all the same.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if no session can have this id, [`SessionError::Unavailable`] if the bucket
    /// does not answer.
    pub async fn revoke_by_id(&self, id: &str) -> Result<Option<Session>, SessionError> {
        let session = SessionId::parse(id).ok_or(SessionError::Invalid)?;
        if let Some((record, _)) = self.bucket.read(session).await? {
            return self.finish(session, record).await.map(Some);
        }
        if let Some(revoker) = &self.revoker {
            revoker.session(id).await.map_err(|error| SessionError::Unavailable(error.into()))?;
        }
        Ok(None)
    }

    /// Ends every session and every access token of `user` that is of an epoch below `epoch`; gives how many
    /// sessions there were.
    ///
    /// `epoch` is the user's new one, written already where epochs are kept: a log-in that runs meanwhile then
    /// begins a session that has ended. One that began in the new epoch goes on, however late this is done.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if a bucket does not answer; doing it again is safe.
    pub async fn revoke_all(&self, user: &str, epoch: u64) -> Result<usize, SessionError> {
        if let Some(revoker) = &self.revoker {
            revoker.user(user, epoch).await.map_err(|error| SessionError::Unavailable(error.into()))?;
        }
        let mut ended = self.live(user).await?;
        ended.retain(|(_, record)| record.owner.user_epoch < epoch);
        try_join_all(ended.iter().map(|(id, _)| self.bucket.remove(*id))).await?;
        Ok(ended.len())
    }

    /// Ends the sessions of a user beyond the cap that are older than `own`.
    ///
    /// All instances have the same order. A session that is beyond the cap is ended by the sessions that are newer
    /// than it; one that is newer than `own`, or `own` itself, is left to those.
    pub(super) async fn evict(&self, user: &str, own: SessionId) -> Result<Vec<Session>, SessionError> {
        let live = self.live(user).await?;
        let newer = live.iter().position(|(id, _)| *id == own).unwrap_or(0);
        let beyond = live.into_iter().skip(self.limits.cap.max(newer + 1));
        let mut ended = Vec::new();
        for (id, record) in beyond {
            tracing::info!(sid = %id, user, "session ended: the user has too many");
            ended.push(self.finish(id, record).await?);
        }
        Ok(ended)
    }

    /// The sessions that have not expired, the newest first.
    async fn live(&self, user: &str) -> Result<Vec<(SessionId, Record)>, SessionError> {
        let mut live = self.bucket.of_user(user).await?;
        live.retain(|(_, record)| !self.has_expired(record));
        live.sort_by_key(|(id, record)| (Reverse(record.begun_at), id.0));
        Ok(live)
    }

    fn has_expired(&self, record: &Record) -> bool {
        self.clock.unix_millis() >= record.expiry()
    }
}
