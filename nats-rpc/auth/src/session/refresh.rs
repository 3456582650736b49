//! Using a refresh token up: it is judged, then what the answer needs is made, and only then it is replaced.

use std::future::ready;
use std::time::Duration;

use super::bucket::Write;
use super::chain::Chain;
use super::judge::Judgement;
use super::token::RefreshToken;
use super::{Issued, Session, SessionError, Sessions, issued};

/// How often a rotation that lost a race is tried anew. Who lost it finds the winner's successor at the
/// second try; more are needed only if several races follow each other.
const TRIES: usize = 5;

/// How long one answer is waited for, of the bucket or of what prepares: a client that is told to try again
/// finds the new leader of a bucket sooner than a question to the old one would end.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

impl Sessions {
    /// Uses up a refresh token and gives its successor.
    ///
    /// For an answer that needs more, or asks whether the owner may go on, use
    /// [`refresh_with`](Self::refresh_with).
    ///
    /// # Errors
    /// As [`SessionError`] says.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Issued, SessionError> {
        let nothing = |_| ready(Ok::<_, SessionError>(Some(())));
        self.refresh_with(refresh_token, nothing).await.map(|(issued, ())| issued)
    }

    /// Uses up a refresh token once `prepare` has made what the answer needs beside its successor.
    ///
    /// `prepare` is given the session of a good token, and runs before the token is replaced:
    ///
    /// - `Ok(Some(_))`: the token is used up, and what was made comes back with its successor.
    /// - `Ok(None)`: the owner may not go on, as who was locked or deleted since: the session ends.
    /// - an error, or no answer within 2 s: nothing is changed and **the token stays good**. Nobody could be
    ///   answered, so the grace period of a token that was used just before stands still.
    ///
    /// It runs anew for each try of a race, and for a repeated token as well; it does not run for a token that
    /// is not good. One that is reused ends its session whatever `prepare` would say.
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
    /// What `prepare` fails with; else a [`SessionError`], made into an `E`.
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
            // The grace period begins with the write, however long it took to prepare.
            let now = self.clock.unix_millis();
            let rotated = record.rotate(&successor, now, &self.limits);
            if self.noting(self.bucket.write(id, &rotated, revision, now)).await? == Write::Done {
                return Ok((issued, prepared));
            }
        }
        Err(SessionError::Contended.into())
    }

    /// Waits for an answer, and remembers for how long if that was too long.
    async fn noting<T, E: From<SessionError>>(&self, answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let start = self.clock.unix_millis();
        let limited = tokio::time::timeout(ANSWER_LIMIT, answer).await;
        let answer = limited.unwrap_or_else(|elapsed| Err(SessionError::Unavailable(elapsed.into()).into()));
        self.outages.note(start, self.clock.unix_millis(), answer.is_ok());
        answer
    }
}
