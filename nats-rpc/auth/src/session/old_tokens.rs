//! Judging old tokens, whose forgeries cost thousands of HMACs: beside the loop, and a bounded share of one core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::chain::{Chain, Pepper};
use super::judge::{Judgement, generations_behind, judge};
use super::record::Record;
use super::token::RefreshToken;
use super::{SessionError, Sessions};

/// The most generations that are judged in the loop, in some 60 µs.
const INLINE: u32 = 256;
/// The pause after an old token, in times of its own duration: all together take a fifth of one core.
const REST: u32 = 4;
/// The longest wait of an old token for those before it.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

/// The turn of judging an old token.
#[derive(Debug, Default)]
pub(super) struct OldTokens(Arc<Mutex<()>>);

impl OldTokens {
    async fn turn(&self) -> Result<OwnedMutexGuard<()>, SessionError> {
        let turn = tokio::time::timeout(WAIT_LIMIT, Arc::clone(&self.0).lock_owned()).await;
        turn.map_err(|elapsed| SessionError::Unavailable(elapsed.into()))
    }
}

impl Sessions {
    /// Judges a token of the record's session.
    ///
    /// A recent one is judged at once. An old one, genuine or forged, takes up to 4 ms. It is judged on a blocking
    /// thread, one at a time; all together take a fifth of one core at most.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if too many old tokens wait; nothing was changed.
    pub(super) async fn judge_token(
        &self,
        record: &Record,
        presented: &RefreshToken,
        grace: u64,
    ) -> Result<Judgement, SessionError> {
        let pepper = self.pepper(record, presented)?;
        let now = self.clock.unix_millis();
        if now >= record.expiry() || generations_behind(record, presented) <= INLINE {
            return Ok(judge(record, presented, &Chain::new(pepper, presented.sid), now, grace));
        }
        let turn = self.old_tokens.turn().await?;
        let (pepper, record, presented): (Pepper, _, _) = (pepper.clone(), record.clone(), presented.clone());
        let judged = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let judged = judge(&record, &presented, &Chain::new(&pepper, presented.sid), now, grace);
            (judged, started.elapsed())
        });
        let (judged, took) = judged.await.map_err(|error| SessionError::Unavailable(error.into()))?;
        tokio::spawn(async move {
            tokio::time::sleep(took * REST).await;
            drop(turn);
        });
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn old_tokens_take_turns_and_wait_no_longer_than_the_limit() {
        let old_tokens = OldTokens::default();
        let turn = old_tokens.turn().await.unwrap();
        assert!(matches!(old_tokens.turn().await, Err(SessionError::Unavailable(_))));
        drop(turn);
        assert!(old_tokens.turn().await.is_ok());
    }
}
