//! A complete copy of the revocations in this process, and the proof of its completeness.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nats_rpc::kv::leader;
use nats_rpc::{Connection, KvBucket, KvRecord, from_json};
use tokio::task::AbortHandle;

use super::bucket::{BUCKET, RevocationBucketError};
use super::proof::{Answer, Proofs, Verdict};
use super::watch::watch;
use crate::follow::{Change, Follower, History};
use crate::jwks::KeyPurpose;
use crate::watch::Hub;
use crate::{DenyList, KeyRing, Revocations, SecretKey, Target, Terms};

/// The default maximum age of the revocation list. An election in a NATS cluster takes up to ten seconds.
pub(crate) const DEFAULT_MAX_STALE: Duration = Duration::from_secs(30);
/// The interval of proofs, unless the maximum age is shorter than four intervals.
const PROVE_EVERY: Duration = Duration::from_secs(2);
/// The timeout of one proof.
const PROOF_LIMIT: Duration = Duration::from_secs(2);
/// The timeout of loading the bucket at startup.
pub(super) const LOAD_LIMIT: Duration = Duration::from_secs(10);

impl Revocations {
    /// Watches the bucket `auth_rev` on `connection`; returns once its complete contents are loaded.
    ///
    /// [`Revocations`] describes which requests are rejected while the list is older than 30 s.
    ///
    /// Only the leader of the bucket's stream proves completeness; a replica that is cut off or behind does not. A
    /// leader that is cut off itself takes 10 to 20 s to notice (nats-server 2.15). A guard that can only reach that
    /// leader rejects requests that much later, and until then does not know the revocations of the next leader.
    ///
    /// It requires `STREAM.INFO`, `STREAM.MSG.GET`, `CONSUMER.CREATE` and `CONSUMER.DELETE` of the stream
    /// `KV_auth_rev`, as [`KvAccess::watch`](nats_rpc::KvAccess::watch) grants them.
    ///
    /// If auth has its own account ([`NatsConfig::auth_js_api_prefix`](nats_rpc::NatsConfig::auth_js_api_prefix)),
    /// there is no consumer. The key ring verifies each change and each beacon of auth. With a static secret, use
    /// [`JwtConfig::load`](crate::JwtConfig::load), which has the secret. This mode requires `STREAM.INFO`,
    /// `STREAM.MSG.GET` and `DIRECT.GET` of that stream, and subscriptions to `watch.auth_rev.>` and
    /// `watch.auth_beacon`.
    ///
    /// ```no_run
    /// use nats_rpc_jwt::{JwtConfig, JwtGuard, Revocations, SecretKey, UserClaims};
    ///
    /// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
    /// let secret = SecretKey::from_vars("JWT_SECRET", |name| std::env::var(name).ok())?;
    /// let revocations = Revocations::watch(&connection).await?;
    /// let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret).revocations(revocations))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RevocationBucketError::Bucket`] if the bucket was not provisioned or cannot be read,
    /// [`RevocationBucketError::NotLoaded`] if its contents do not arrive within 10 s.
    pub async fn watch(connection: &Connection) -> Result<Self, RevocationBucketError> {
        Self::watch_within(connection, DEFAULT_MAX_STALE).await
    }

    /// Watches the bucket like [`watch`](Self::watch), with another maximum age than 30 s.
    ///
    /// With less than 10 s, an election of the bucket's leader is an outage of every guarded handler.
    ///
    /// # Errors
    /// Those of [`watch`](Self::watch).
    pub async fn watch_within(connection: &Connection, max_stale: Duration) -> Result<Self, RevocationBucketError> {
        Self::watch_signed(connection, max_stale, None).await
    }

    /// Watches the bucket like [`watch_within`](Self::watch_within); `secret`, or else a key of the ring, verifies
    /// changes that arrive as messages.
    pub(crate) async fn watch_signed(
        connection: &Connection,
        max_stale: Duration,
        secret: Option<&SecretKey>,
    ) -> Result<Self, RevocationBucketError> {
        let list = Arc::new(DenyList::new(max_stale));
        if connection.auth_js_api_prefix().is_some() {
            let (hub, ring) = match secret {
                Some(secret) => (Hub::of_secret(connection, secret), None),
                None => hub_of_ring(connection).await.map(|(hub, ring)| (hub, Some(ring)))?,
            };
            let watching = Proving(watch(connection, hub, list.clone(), max_stale).await?);
            return Ok(Self::new(list).fed_by((watching, ring)));
        }
        let asked = Instant::now();
        let follower = Follower::start(connection, BUCKET, History::Long, tell(list.clone())).await?;
        follower.loaded(LOAD_LIMIT).await.map_err(|_| RevocationBucketError::NotLoaded { waited: LOAD_LIMIT })?;
        // The contents of the bucket at the time of the request are loaded.
        list.confirm(asked);
        let bucket = KvBucket::open(connection, BUCKET).await?;
        let proving = tokio::spawn(prove(bucket, follower, list.clone(), prove_every(max_stale))).abort_handle();
        Ok(Self::new(list).fed_by(Proving(proving)))
    }
}

/// Returns the beacons of this connection, verified by its present ring, or else by a new one.
async fn hub_of_ring(connection: &Connection) -> Result<(Arc<Hub>, KeyRing), RevocationBucketError> {
    if let Some(running) = Hub::running(connection) {
        return Ok(running);
    }
    let ring = KeyRing::watch(connection, KeyPurpose::AccessTokens).await;
    let ring = ring.map_err(|error| RevocationBucketError::Keys(Box::new(error)))?;
    // The new ring starts its own hub, unless another one was started meanwhile.
    Ok(Hub::running(connection).unwrap_or_else(|| (Hub::of_ring(connection, &ring), ring)))
}

fn prove_every(max_stale: Duration) -> Duration {
    PROVE_EVERY.min(max_stale / 4).max(Duration::from_millis(10))
}

/// A task that ends with the last clone of the revocations that it feeds.
struct Proving(AbortHandle);

impl Drop for Proving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Applies the follower's events to the list.
fn tell(list: Arc<DenyList>) -> impl FnMut(Change<'_>) + Send + 'static {
    move |change| match change {
        Change::Begin { .. } => list.begin(),
        Change::Loaded => list.loaded(),
        Change::Put { key, value, .. } => put(&list, key, value),
        Change::Gone { key, .. } => remove(&list, key),
    }
}

/// Applies a record to the list.
pub(super) fn apply(list: &DenyList, record: &KvRecord) {
    match &record.value {
        Some(value) => put(list, &record.key, value),
        None => remove(list, &record.key),
    }
}

fn put(list: &DenyList, key: &str, value: &[u8]) {
    match Target::from_key(key) {
        Some(target) => list.put(target, terms(key, value)),
        None => tracing::error!(key, "a key in {BUCKET} that is no revocation"),
    }
}

fn remove(list: &DenyList, key: &str) {
    if let Some(target) = Target::from_key(key) {
        list.remove(&target);
    }
}

fn terms(key: &str, value: &[u8]) -> Terms {
    from_json(value).unwrap_or_else(|error| {
        tracing::error!(key, %error, "a revocation that cannot be read: it is taken for the strictest");
        Terms::default()
    })
}

/// Proves periodically that the list is complete, outside of request handling.
///
/// It requests the last sequence from the stream's leader. Once that sequence has been received, the list was complete
/// at the time of the request. Nothing needs to be written for it, so it works while no auth service runs.
async fn prove(bucket: KvBucket, follower: Follower, list: Arc<DenyList>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut proofs = Proofs::default();
    loop {
        tick.tick().await;
        list.sweep();
        match tokio::time::timeout(PROOF_LIMIT, ask(&bucket)).await {
            Ok(Ok(answer)) => match proofs.judge(answer, follower.seen(), Instant::now()) {
                Verdict::Proven(moment) => list.confirm(moment),
                Verdict::Open => {}
                Verdict::Reread(reason) => {
                    tracing::warn!(reason, "the KV bucket {BUCKET} is read anew");
                    follower.resync();
                }
            },
            Ok(Err(error)) => tracing::debug!(%error, "the KV bucket {BUCKET} does not say what it holds"),
            Err(_) => tracing::debug!("the KV bucket {BUCKET} does not answer"),
        }
    }
}

async fn ask(bucket: &KvBucket) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    let asked = Instant::now();
    let info = leader::info(&bucket.current().await?.store).await?;
    Ok(Answer { asked, last: info.state.last_sequence, created: info.created })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_proven_each_2_s_or_four_times_within_a_shorter_bound() {
        let every = |millis| prove_every(Duration::from_millis(millis)).as_millis();
        assert_eq!([30_000, 8_000, 4_000, 1_000, 40, 0].map(every), [2_000, 2_000, 1_000, 250, 10, 10]);
    }

    #[test]
    fn a_revocation_that_cannot_be_read_is_the_strictest() {
        let strictest = Terms { epoch: None, until: None };
        for unreadable in ["", "[]", r#"{"epoch":-1}"#] {
            assert_eq!(terms("sid.s1", unreadable.as_bytes()), strictest, "{unreadable}");
        }
        let stored = Terms { epoch: Some(4), until: Some(1_800_000_000) };
        assert_eq!(terms("sub.s1", &serde_json::to_vec(&stored).unwrap()), stored);
    }
}
