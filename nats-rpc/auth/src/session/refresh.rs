//! Rotation of a refresh token: it is checked, then the other parts of the reply are created, and only then it is
//! replaced.

use std::future::ready;
use std::time::Duration;

use super::bucket::Write;
use super::chain::Chain;
use super::judge::Judgement;
use super::token::RefreshToken;
use super::{Issued, Session, SessionError, Sessions, issued};

/// The maximum number of attempts of a rotation that loses races. The loser finds the winner's successor in its second
/// attempt; it needs more only if several races follow each other.
const TRIES: usize = 5;

/// The timeout of one reply of the bucket, or of `prepare`. A client that retries finds the new leader of a bucket
/// sooner than a request to the old one would time out.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

impl Sessions {
    /// Replaces a refresh token and returns its successor.
    ///
    /// If the reply contains more, or depends on whether the owner may continue, use
    /// [`refresh_with`](Self::refresh_with).
    ///
    /// # Errors
    /// See [`SessionError`].
    pub async fn refresh(&self, refresh_token: &str) -> Result<Issued, SessionError> {
        let nothing = |_| ready(Ok::<_, SessionError>(Some(())));
        self.refresh_with(refresh_token, nothing).await.map(|(issued, ())| issued)
    }

    /// Replaces a refresh token after `prepare` has created the other parts of the reply.
    ///
    /// `prepare` receives the session of a valid token, and runs before the token is replaced:
    ///
    /// - `Ok(Some(_))`: the token is replaced, and the value is returned with its successor.
    /// - `Ok(None)`: the owner may not continue, for example after being locked or deleted: the session ends.
    /// - an error, or no reply within 2 s: nothing is changed and **the token stays valid**. This outage extends the
    ///   grace period of a token that was used just before.
    ///
    /// It runs again for each attempt of a race, and for a repeated token as well. It does not run for an invalid
    /// token. A reused token ends its session without it.
    ///
    /// ```no_run
    /// # use nats_rpc_auth::{Grant, Session, Sessions, TokenIssuer};
    /// # use nats_rpc::RpcError;
    /// # async fn may_go_on(user: &str) -> Result<bool, RpcError> { Ok(true) }
    /// # async fn example(sessions: &Sessions, issuer: &TokenIssuer, token: &str) -> Result<(), RpcError> {
    /// let access_token = |session: Session| async move {
    ///     match may_go_on(&session.owner.user).await? {
    ///         true => issuer.issue(&Grant::new(&session.owner.user, &session.id)).map(Some),
    ///         false => Ok(None),
    ///     }
    /// };
    /// let (issued, access_token) = sessions.refresh_with(token, access_token).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error of `prepare`; otherwise a [`SessionError`], converted into an `E`.
    pub async fn refresh_with<T, E: From<SessionError>, P: Future<Output = Result<Option<T>, E>>>(
        &self,
        refresh_token: &str,
        prepare: impl Fn(Session) -> P,
    ) -> Result<(Issued, T), E> {
        let presented = RefreshToken::parse(refresh_token).ok_or(SessionError::Invalid)?;
        let id = presented.sid;
        for _ in 0..TRIES {
            let (record, revision) = self.noting(self.bucket.read(id)).await?.ok_or(SessionError::Invalid)?;
            let grace = self.outages.prolong(self.limits.grace, record.rotated_at);
            let judgement = self.judge_token(&record, &presented, grace).await?;
            match judgement {
                Judgement::Current | Judgement::Repeated => {}
                Judgement::Reused => {
                    let session = self.finish(id, record).await?;
                    tracing::warn!(sid = %session.id, user = %session.owner.user, "refresh token reused: session ended");
                    return Err(SessionError::Reused(session).into());
                }
                Judgement::Spent => return Err(SessionError::Ended(self.finish(id, record).await?).into()),
                Judgement::Invalid => return Err(SessionError::Invalid.into()),
            }
            let successor = Chain::new(self.pepper(&record, &presented)?, id).successor(&presented);
            let issued = issued(&successor, record.owner.clone());
            let Some(prepared) = self.noting(prepare(issued.session.clone())).await? else {
                return Err(SessionError::Ended(self.finish(id, record).await?).into());
            };
            if judgement == Judgement::Repeated {
                return Ok((issued, prepared));
            }
            // The grace period begins with the write, regardless of the duration of `prepare`.
            let now = self.clock.unix_millis();
            let rotated = record.rotate(&successor, now, &self.limits);
            if self.noting(self.bucket.write(id, &rotated, revision, now)).await? == Write::Done {
                return Ok((issued, prepared));
            }
        }
        Err(SessionError::Contended.into())
    }

    /// Waits for a reply, and records the duration if it was too long.
    async fn noting<T, E: From<SessionError>>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = self.clock.unix_millis();
        let limited = tokio::time::timeout(ANSWER_LIMIT, answer).await;
        let answer = limited.unwrap_or_else(|elapsed| Err(SessionError::Unavailable(elapsed.into()).into()));
        self.outages.note(start, self.clock.unix_millis(), answer.is_ok());
        answer
    }
}
