//! The live sessions of a user: listing them, and ending them without one of their tokens.

use std::cmp::Reverse;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::try_join_all;

use super::record::Record;
use super::{Session, SessionError, SessionId, Sessions};

/// A live session, in the form that its user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// The session.
    pub session: Session,
    /// The creation time.
    pub created_at: SystemTime,
    /// The time of the last refresh, or the creation time.
    pub refreshed_at: SystemTime,
    /// The expiry time, unless the session is refreshed.
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
    /// Lists the sessions of `user`, the newest first. The list contains sessions of earlier epochs until they are
    /// used, removed or expired: a caller that has the epochs filters them out.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if the bucket does not reply.
    pub async fn list(&self, user: &str) -> Result<Vec<SessionInfo>, SessionError> {
        let live = self.live(user).await?;
        Ok(live.into_iter().map(|(id, record)| SessionInfo::new(id, record)).collect())
    }

    /// Ends one session of `user` by its id, and revokes its access tokens.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if the user has no such session, [`SessionError::Unavailable`] if the bucket does not
    /// reply.
    pub async fn revoke(&self, user: &str, id: &str) -> Result<Session, SessionError> {
        let id = SessionId::parse(id).ok_or(SessionError::Invalid)?;
        let (record, _) = self.bucket.read(id).await?.ok_or(SessionError::Invalid)?;
        if record.owner.user != user || self.has_expired(&record) {
            return Err(SessionError::Invalid);
        }
        self.finish(id, record).await
    }

    /// Ends the session with this id, of any user, and revokes its access tokens; returns `None` if it does not exist.
    ///
    /// The tokens of a session that has already ended are revoked as well.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if the id is malformed, [`SessionError::Unavailable`] if the bucket does not reply.
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

    /// Ends every session of `user` of an epoch below `epoch`, and revokes their access tokens; returns the number of
    /// sessions.
    ///
    /// `epoch` is the user's new one. Store it in the account first: a concurrent login with the old epoch then
    /// creates a session that has already ended. A session of the new epoch stays live, even if this call is late.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if a bucket does not reply; a retry is safe.
    pub async fn revoke_all(&self, user: &str, epoch: u64) -> Result<usize, SessionError> {
        if let Some(revoker) = &self.revoker {
            revoker.user(user, epoch).await.map_err(|error| SessionError::Unavailable(error.into()))?;
        }
        let mut ended = self.live(user).await?;
        ended.retain(|(_, record)| record.owner.user_epoch < epoch);
        try_join_all(ended.iter().map(|(id, _)| self.bucket.remove(*id))).await?;
        Ok(ended.len())
    }

    /// Evicts the sessions of a user beyond the maximum that are older than `own`.
    ///
    /// All instances use the same order. The newer sessions evict one that is beyond the maximum. This call evicts
    /// neither `own` nor sessions newer than `own`; those are left to the calls of newer sessions.
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

    /// Returns the sessions that have not expired, the newest first.
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
