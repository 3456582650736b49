//! Every revocation in this process, and the proof that it is every one.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;

use super::bucket::{BUCKET, RevocationBucketError};
use crate::auth::follow::{Change, Follower};
use crate::connection::{Connection, KvBucket};
use crate::jwt::{Clock, DenyList, Revocations, Target, Terms};

/// For how long nothing may prove that all revocations are known unless configured. An election in a NATS
/// cluster takes up to ten seconds.
const DEFAULT_MAX_STALE: Duration = Duration::from_secs(30);
/// How often it is proven, unless the bound is shorter than four times as long.
const PROVE_EVERY: Duration = Duration::from_secs(2);
/// How long one proof may take.
const PROOF_LIMIT: Duration = Duration::from_secs(2);
/// How long a start waits for what the bucket holds.
const LOAD_LIMIT: Duration = Duration::from_secs(10);
/// How long the replica may be behind the bucket before it reads it anew: what it waits for may have
/// expired before it was delivered.
const LAG_LIMIT: Duration = Duration::from_secs(4);

impl Revocations {
    /// Follows the bucket `auth_rev` on `connection`; returns once all that it holds is here.
    ///
    /// What is refused while nothing proves for 30 s that this is so, [`Revocations`] tells.
    ///
    /// ```no_run
    /// use nats_rpc::jwt::{JwtConfig, JwtGuard, Revocations, SecretKey, UserClaims};
    ///
    /// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = SecretKey::from_vars("JWT_SECRET", |name| std::env::var(name).ok())?;
    /// let revocations = Revocations::follow(&connection).await?;
    /// let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret).revocations(revocations))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RevocationBucketError::Bucket`] if the bucket was not provisioned or cannot be read,
    /// [`RevocationBucketError::NotLoaded`] if what it holds does not arrive within 10 s.
    pub async fn follow(connection: &Connection) -> Result<Self, RevocationBucketError> {
        Self::follow_within(connection, DEFAULT_MAX_STALE).await
    }

    /// As [`follow`](Self::follow), with another bound than 30 s.
    ///
    /// Less than 10 s makes an election of the bucket's leader an outage of every guarded handler.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub async fn follow_within(connection: &Connection, max_stale: Duration) -> Result<Self, RevocationBucketError> {
        let list = Arc::new(DenyList::new(max_stale));
        let asked = Instant::now();
        let follower = Follower::start(connection, BUCKET, tell(list.clone())).await?;
        follower.loaded(LOAD_LIMIT).await.map_err(|_| RevocationBucketError::NotLoaded { waited: LOAD_LIMIT })?;
        // What was in the bucket when it was asked for is here.
        list.confirm(asked);
        let bucket = KvBucket::open(connection, BUCKET).await?;
        let every = PROVE_EVERY.min(max_stale / 4).max(Duration::from_millis(10));
        let proving = tokio::spawn(prove(bucket, follower, list.clone(), every)).abort_handle();
        Ok(Self::new(list).fed_by(Proving(proving)))
    }
}

/// Ends with the last clone of the revocations that it feeds.
struct Proving(AbortHandle);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Puts what the follower sees into the list.
fn tell(list: Arc<DenyList>) -> impl FnMut(Change<'_>) + Send + 'static {
    move |change| match change {
        Change::Begin => list.begin(),
        Change::Loaded => list.loaded(),
        Change::Put { key, value, .. } => match Target::from_key(key) {
            Some(target) => list.put(target, terms(key, value)),
            None => tracing::error!(key, "a key in {BUCKET} that is no revocation"),
        },
        Change::Gone { key, .. } => {
            if let Some(target) = Target::from_key(key) {
                list.remove(&target);
            }
        }
    }
}

fn terms(key: &str, value: &[u8]) -> Terms {
    serde_json::from_slice(value).unwrap_or_else(|error| {
        tracing::error!(key, %error, "a revocation that cannot be read: it is taken for the strictest");
        Terms::default()
    })
}

/// Proves again and again that the list holds everything, off the path of any request.
///
/// The stream's leader is asked for the last sequence; once that has been seen, everything had been when it
/// was asked. Nobody has to write for it, so it works while no auth service runs.
async fn prove(bucket: KvBucket, follower: Follower, list: Arc<DenyList>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let clock = Clock::default();
    let mut created = None;
    let mut behind: Option<Answer> = None;
    loop {
        tick.tick().await;
        list.sweep(clock.unix_seconds());
        match tokio::time::timeout(PROOF_LIMIT, ask(&bucket)).await {
            Ok(Ok(answer)) => {
                // Its sequences say nothing of those of another stream of this name.
                if created.replace(answer.created).is_some_and(|known| known != answer.created) {
                    tracing::warn!("the KV bucket {BUCKET} is another one; it is read anew");
                    follower.resync();
                    behind = None;
                    continue;
                }
                let earlier = behind.take();
                let seen = follower.sequence();
                if let Some(proof) = [Some(&answer), earlier.as_ref()].into_iter().flatten().find(|it| it.last <= seen)
                {
                    list.confirm(proof.asked);
                }
                if answer.last > seen {
                    // The earliest question that is open tells how long it has been.
                    let open = earlier.filter(|earlier| earlier.last > seen).unwrap_or(answer);
                    if open.asked.elapsed() > LAG_LIMIT {
                        follower.resync();
                    } else {
                        behind = Some(open);
                    }
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "the KV bucket {BUCKET} does not say what it holds"),
            Err(_) => tracing::debug!("the KV bucket {BUCKET} does not answer"),
        }
    }
}

/// What the stream's leader said, and when it was asked.
struct Answer {
    asked: Instant,
    last: u64,
    created: time::OffsetDateTime,
}

async fn ask(bucket: &KvBucket) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let asked = Instant::now();
    let info = bucket.current().await?.store.stream.get_info().await?;
    Ok(Answer { asked, last: info.state.last_sequence, created: info.created })
}
