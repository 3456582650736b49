//! Session ends: written into the account, then announced, even if the call is cancelled.

use std::future::Future;
use std::time::Duration;

use nats_rpc::{Code, RpcError};
use nats_rpc_auth::AuditEvent;
use tokio::time::{Instant, sleep};
use users::UserId;
use users::bucket::RecordError;

use super::Authority;
use super::announcements::Announced;
use crate::account::{Account, AccountKey};

/// Maximum time for retries of an account write: an election of the bucket's leader takes up to ten seconds.
const WRITE_LIMIT: Duration = Duration::from_secs(15);
/// Maximum time for retries of an announcement: after that, the access tokens in question have expired.
const ANNOUNCE_LIMIT: Duration = Duration::from_mins(15);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// An account whose sessions have ended, with the announcement of that end.
pub(super) struct Ended {
    account: Account,
    announced: Announced,
}

impl Authority {
    /// Runs `work` in a detached task that continues if the call is cancelled. After the account write, a retry could
    /// not do the rest: the password, or the reset token, has changed by then.
    ///
    /// Only the call waits for an announcement that another one has taken over.
    pub(super) async fn spawn_detached<Fut>(
        &self,
        what: &'static str,
        work: impl FnOnce(Self) -> Fut,
    ) -> Result<Option<Account>, RpcError>
    where
        Fut: Future<Output = Result<Option<Ended>, RpcError>> + Send + 'static,
    {
        let ended = self.0.service.spawn_detached(what, work(self.clone())).await??;
        let Some(Ended { account, announced }) = ended else { return Ok(None) };
        announced.known().await?;
        Ok(Some(account))
    }

    /// Ends every session and every token of `user`, whose account is at `key`; `None` if the account is not there.
    pub(super) async fn log_out_user(&self, key: AccountKey, user: UserId) -> Result<Option<Account>, RpcError> {
        let event = AuditEvent::LoggedOutEverywhere { user: user.to_string() };
        let end =
            async move |authority: Self| authority.end(event, || authority.0.accounts.end_sessions(&key, user)).await;
        self.spawn_detached("a log-out everywhere", end).await
    }

    /// Writes an account with an end of its sessions, emits `event`, and announces the end.
    ///
    /// Callers run it detached. `write` may run again after it took effect, if its reply was lost.
    pub(super) async fn end<Fut>(&self, event: AuditEvent, write: impl Fn() -> Fut) -> Result<Option<Ended>, RpcError>
    where
        Fut: Future<Output = Result<Option<Account>, RecordError>>,
    {
        let Some(account) = self.write_end(event, write).await? else { return Ok(None) };
        Ok(Some(self.announce_end(account).await))
    }

    /// The first half of [`end`](Self::end), for callers with more work that need not wait for the second half.
    pub(super) async fn write_end<Fut>(
        &self,
        event: AuditEvent,
        write: impl Fn() -> Fut,
    ) -> Result<Option<Account>, RpcError>
    where
        Fut: Future<Output = Result<Option<Account>, RecordError>>,
    {
        let written = again(WRITE_LIMIT, write).await.inspect_err(|error| {
            tracing::error!(%error, ?event, "whether it took place is not known");
        })?;
        if written.is_some() {
            self.0.audit.emit(event);
        }
        Ok(written)
    }

    /// The second half of [`end`](Self::end): announces the end that is written in `account`.
    pub(super) async fn announce_end(&self, account: Account) -> Ended {
        let user = account.user_id.to_string();
        let announce = async |epoch| again(ANNOUNCE_LIMIT, || self.0.sessions.revoke_all(&user, epoch)).await.map(drop);
        let announced = self.0.announcements.make(account.user_id, account.epoch, announce).await;
        Ended { account, announced }
    }
}

/// Retries `work` until it succeeds, fails with an error other than an unavailable bucket, or `limit` is over.
async fn again<T, E, Fut>(limit: Duration, work: impl Fn() -> Fut) -> Result<T, RpcError>
where
    E: Into<RpcError>,
    Fut: Future<Output = Result<T, E>>,
{
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        match work().await.map_err(Into::into) {
            Err(error) if error.code() == Code::Unavailable && Instant::now() + pause < end => {
                tracing::warn!(%error, ?pause, "tried again after a pause");
                sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_answer_is_asked_again_until_the_limit_and_a_refusal_is_one() {
        let asked = Cell::new(0);
        let answer = |error: fn() -> RpcError, failures: u32| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                let done = if asked.get() > failures { Ok(asked.get()) } else { Err(error()) };
                async move { done }
            }
        };
        let (away, refused) = (|| RpcError::unavailable("away"), || RpcError::internal("malformed"));
        assert_eq!(again(WRITE_LIMIT, answer(away, 5)).await.unwrap(), 6);
        asked.set(0);
        assert_eq!(again(WRITE_LIMIT, answer(refused, 5)).await.unwrap_err().code(), Code::Internal);
        assert_eq!(asked.get(), 1);
        let begun = Instant::now();
        assert_eq!(again(WRITE_LIMIT, answer(away, u32::MAX)).await.unwrap_err().code(), Code::Unavailable);
        assert!(begun.elapsed() <= WRITE_LIMIT && begun.elapsed() + LONGEST_PAUSE >= WRITE_LIMIT);
    }
}
