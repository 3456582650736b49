//! Revocation: one small write, received by every service within milliseconds.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::Republish;
use async_nats::jetstream::{self, kv};
use nats_rpc::kv::revision;
use nats_rpc::{Connection, KvBucket, KvHandles, RpcError, from_json};

use super::bucket::{BUCKET, RevocationBucketError};
use super::signed::Signed;
use super::watch::CHANGES;
use crate::change_signer::ChangeSigner;
use crate::watch::ask_for_beacon;
use crate::{Clock, MAX_REVOCABLE_LIFETIME, Target, Terms, subject_digest};

/// The time to keep a revocation: the maximum lifetime of a token, the maximum skew of a guard, and a margin for the
/// delivery.
const RETENTION: Duration = Duration::from_secs(MAX_REVOCABLE_LIFETIME.as_secs() + 60 + 5);
/// The lifetime of the marker of an expired revocation.
const MARKER_TTL: Duration = Duration::from_secs(60);
const MAX_VALUE_BYTES: i32 = 512;
/// The maximum number of attempts of a write that loses races.
const TRIES: usize = 16;

/// Revokes tokens, sessions, one user's tokens and all users' tokens, by the KV bucket `auth_rev`.
///
/// Every service whose guard has [`Revocations`](crate::Revocations) rejects revoked tokens within milliseconds. An
/// entry stays for 1 h and 65 s, longer than any token that it can concern; then it expires. Only auth services, and
/// programs that act for them, may write to the bucket.
///
/// Epochs only increase. The user's account stores the user's epoch; this type publishes it.
///
/// ```no_run
/// use nats_rpc_jwt::Revoker;
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// Revoker::provision(&connection.jetstream(), 3).await?; // once, by whoever deploys
///
/// let revoker = Revoker::open(&connection).await?;
/// revoker.session("EAAQpXuk4Bwq1Y8c2kK2Qg").await?; // a log-out
/// revoker.user("0192f0c1", 4).await?;               // everything below epoch 4
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Revoker {
    connection: Connection,
    bucket: KvBucket,
    clock: Clock,
    retention: Duration,
    signer: Option<ChangeSigner>,
}

/// The reason why a revocation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// A `jti` or `sid` that is not 1 to 64 characters of base64url.
    #[error("an id that is revoked must be 1 to 64 characters of base64url")]
    Id,
    /// The bucket did not reply; it is unknown whether the revocation was written. Repeating it is safe.
    #[error("revocations are unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Lost sixteen races in a row; retry.
    #[error("too many concurrent revocations")]
    Contended,
}

impl From<RevocationError> for RpcError {
    fn from(error: RevocationError) -> Self {
        match error {
            RevocationError::Id => Self::invalid_argument(error.to_string()),
            RevocationError::Unavailable(_) | RevocationError::Contended => {
                Self::unavailable("revocations are unavailable").with_source(error)
            }
        }
    }
}

impl Revoker {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or updates an existing one to this configuration.
    ///
    /// # Errors
    /// [`RevocationBucketError::Provision`] if the server rejects the request, cannot be reached, or is older than
    /// 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), RevocationBucketError> {
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "revoked tokens, sessions and epochs".to_owned(),
            max_value_size: MAX_VALUE_BYTES,
            num_replicas: replicas,
            limit_markers: Some(MARKER_TTL),
            // nats-server republishes each change to watchers without a consumer.
            republish: Some(Republish {
                source: format!("$KV.{BUCKET}.>"),
                destination: CHANGES.to_owned(),
                headers_only: false,
            }),
            ..kv::Config::default()
        };
        let failed = |error: Box<dyn Error + Send + Sync>| RevocationBucketError::Provision(error);
        let store = jetstream.create_or_update_key_value(config).await.map_err(|error| failed(error.into()))?;
        // The global epoch is permanent, so the bucket is never empty: a watcher can distinguish "nothing is revoked"
        // from "not loaded yet".
        let terms = Terms { epoch: Some(0), until: None };
        let message = publish(&Signed { terms, kid: None, sig: None }).map_err(failed)?;
        let written = revision::replace(jetstream, &store, &Target::Global.key(), message, 0).await;
        written.map(drop).map_err(|error| failed(error.into()))
    }

    /// Opens the bucket and checks that its entries expire.
    ///
    /// # Errors
    /// [`RevocationBucketError::Bucket`] if it was not provisioned or cannot be reached,
    /// [`RevocationBucketError::NoTtl`] if it was created without limit markers.
    pub async fn open(connection: &Connection) -> Result<Self, RevocationBucketError> {
        let bucket = KvBucket::open_of_auth(connection, BUCKET).await?;
        if !bucket.current().await?.store.stream.cached_info().config.allow_message_ttl {
            return Err(RevocationBucketError::NoTtl);
        }
        Ok(Self { connection: connection.clone(), bucket, clock: Clock::default(), retention: RETENTION, signer: None })
    }

    /// Signs its writes, so that services that watch without a consumer apply them on arrival.
    ///
    /// Without a signature these services read the change from the bucket, up to some seconds later.
    #[must_use]
    pub fn signed_by(mut self, signer: &ChangeSigner) -> Self {
        self.signer = Some(signer.clone());
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Sets another time to keep revocations than 1 h and 65 s; for tests, or for tokens with shorter lifetimes.
    ///
    /// Whole seconds. A token that lives longer becomes valid again when its revocation expires.
    #[must_use]
    pub fn retention_at_least_the_lifetime_of_tokens(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Revokes one token, by its `jti`.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub async fn token(&self, jti: &str) -> Result<(), RevocationError> {
        self.put(&Target::token(jti).ok_or(RevocationError::Id)?).await
    }

    /// Revokes all tokens of a session, by their `sid`.
    ///
    /// # Errors
    /// See [`RevocationError`].
    pub async fn session(&self, sid: &str) -> Result<(), RevocationError> {
        self.put(&Target::session(sid).ok_or(RevocationError::Id)?).await
    }

    /// Revokes all tokens of the user `sub` that were issued below `epoch`. An epoch that is not above the known one
    /// changes nothing.
    ///
    /// # Errors
    /// [`RevocationError::Unavailable`], [`RevocationError::Contended`].
    pub async fn user(&self, sub: &str, epoch: u64) -> Result<(), RevocationError> {
        let target = Target::User(subject_digest(sub));
        self.raise(&target, |known| (known < Some(epoch)).then_some(epoch)).await.map(drop)
    }

    /// Revokes all users' tokens, and returns the epoch that tokens must have from now on.
    ///
    /// # Errors
    /// [`RevocationError::Unavailable`], [`RevocationError::Contended`].
    pub async fn everybody(&self) -> Result<u64, RevocationError> {
        self.raise(&Target::Global, |known| Some(known.unwrap_or_default().saturating_add(1))).await
    }

    /// Writes an entry without an epoch: its presence revokes.
    async fn put(&self, target: &Target) -> Result<(), RevocationError> {
        let current = self.current().await?;
        let (message, is_signed) = self.entry(&current, target, None)?;
        let sent = current.jetstream.send_publish(revision::subject(&current.store, &target.key()), message);
        let published = async { sent.await?.await.map(drop) }.await;
        published.map_err(|error: PublishError| RevocationError::Unavailable(error.into()))?;
        self.announce(is_signed).await;
        Ok(())
    }

    /// Raises an epoch to the result of `next` for the known one, or keeps it; returns the resulting epoch.
    async fn raise(&self, target: &Target, next: impl Fn(Option<u64>) -> Option<u64>) -> Result<u64, RevocationError> {
        for _ in 0..TRIES {
            let current = self.current().await?;
            let (known, revision) = read(&current, target).await?;
            let Some(epoch) = next(known) else { return Ok(known.unwrap_or_default()) };
            let (message, is_signed) = self.entry(&current, target, Some(epoch))?;
            let key = target.key();
            let written = revision::replace(&current.jetstream, &current.store, &key, message, revision).await;
            if written.map_err(|error| RevocationError::Unavailable(error.into()))? {
                self.announce(is_signed).await;
                return Ok(epoch);
            }
        }
        Err(RevocationError::Contended)
    }

    /// Builds the message of an entry, with its time to live; returns it with `true` if it is signed. async-nats' own
    /// calls do not fit: `create_with_ttl` drops the time to live if an expired entry was there, and `update` has
    /// none.
    fn entry(
        &self,
        current: &KvHandles,
        target: &Target,
        epoch: Option<u64>,
    ) -> Result<(PublishMessage, bool), RevocationError> {
        let until = match target {
            Target::Global => None,
            _ => Some(self.clock.unix_seconds().saturating_add(self.retention.as_secs())),
        };
        // A bucket of an earlier version cannot hold a signature, until `provision` has run.
        let has_room = current.store.stream.cached_info().config.max_message_size >= MAX_VALUE_BYTES;
        let signer = self.signer.as_ref().filter(|_| has_room).map(ChangeSigner::signer);
        let signed = Signed::new(&target.key(), Terms { epoch, until }, signer, self.clock.unix_seconds());
        let message = publish(&signed).map_err(RevocationError::Unavailable)?;
        Ok((if until.is_some() { message.ttl(self.retention) } else { message }, signed.sig.is_some()))
    }

    /// Requests the auth instances to announce an unsigned change, which watchers must read from the bucket.
    async fn announce(&self, is_signed: bool) {
        if !is_signed {
            ask_for_beacon(&self.connection).await;
        }
    }

    /// Returns the bucket on the present client.
    async fn current(&self) -> Result<Arc<KvHandles>, RevocationError> {
        self.bucket.current().await.map_err(|error| RevocationError::Unavailable(error.into()))
    }
}

fn publish(signed: &Signed) -> Result<PublishMessage, Box<dyn Error + Send + Sync>> {
    Ok(PublishMessage::build().payload(serde_json::to_vec(signed)?.into()))
}

/// Returns the epoch at a key, and the revision that a write replaces.
async fn read(current: &KvHandles, target: &Target) -> Result<(Option<u64>, u64), RevocationError> {
    let latest = revision::latest(current, &target.key()).await;
    let (value, revision) = latest.map_err(|error| RevocationError::Unavailable(error.into()))?;
    let Some(value) = value else { return Ok((None, revision)) };
    let terms: Terms = from_json(&value).map_err(|error| RevocationError::Unavailable(error.into()))?;
    Ok((terms.epoch, revision))
}

#[cfg(test)]
mod tests {
    use nats_rpc::Code;

    use super::*;

    #[test]
    fn what_failed_for_a_moment_is_unavailable_and_a_bad_id_is_the_callers() {
        assert_eq!(RpcError::from(RevocationError::Id).code(), Code::InvalidArgument);
        assert_eq!(RpcError::from(RevocationError::Contended).code(), Code::Unavailable);
    }

    #[test]
    fn a_revocation_outlives_every_token_that_a_guard_may_take() {
        assert_eq!(RETENTION, MAX_REVOCABLE_LIFETIME + Duration::from_secs(65));
    }
}
