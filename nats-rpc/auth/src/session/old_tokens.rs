//! Classification of old tokens outside of the endpoint's task. A forged one costs thousands of HMACs, so all together
//! get a bounded share of one core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::chain::{Chain, Pepper};
use super::judge::{Judgement, generations_behind, judge};
use super::record::Record;
use super::token::RefreshToken;
use super::{SessionError, Sessions};

/// The maximum number of generations checked in the endpoint's task, in some 60 µs.
const INLINE: u32 = 256;
/// The pause after an old token, as a multiple of its own duration: all together take a fifth of one core.
const REST: u32 = 4;
/// The maximum wait of an old token for those before it.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

/// Serializes the checks of old tokens.
#[derive(Debug, Default)]
pub(super) struct OldTokens(Arc<Mutex<()>>);

impl OldTokens {
    async fn turn(&self) -> Result<OwnedMutexGuard<()>, SessionError> {
        let turn = tokio::time::timeout(WAIT_LIMIT, Arc::clone(&self.0).lock_owned()).await;
        turn.map_err(|elapsed| SessionError::Unavailable(elapsed.into()))
    }
}

impl Sessions {
    /// Classifies a token of the record's session.
    ///
    /// A recent one is checked at once. An old one, genuine or forged, takes up to 4 ms. It is checked on a blocking
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
