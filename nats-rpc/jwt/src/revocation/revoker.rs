//! Revoking: one small write, seen by every service some milliseconds later.

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

/// How long a revocation is remembered: the longest lifetime of a token, with the most skew that a guard can
/// be set to allow, and a little for the way here.
const RETENTION: Duration = Duration::from_secs(MAX_REVOCABLE_LIFETIME.as_secs() + 60 + 5);
/// How long the trace of an expired revocation stays.
const MARKER_TTL: Duration = Duration::from_secs(60);
const MAX_VALUE_BYTES: i32 = 512;
/// How often a write that lost a race is tried anew.
const TRIES: usize = 16;

/// Revokes tokens, sessions, users and everybody, by the KV bucket `auth_rev`.
///
/// Every service whose guard has [`Revocations`](crate::Revocations) refuses what was revoked some
/// milliseconds later. An entry stays for 1 h and 65 s, longer than any token that it can concern; the
/// bucket empties itself. Only auth services, and what acts for them, may write to it.
///
/// Epochs only ever rise. What a user's epoch is, the user's account knows; here it is made known.
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

/// Why something was not revoked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RevocationError {
    /// A `jti` or `sid` that is not 1 to 64 characters of base64url.
    #[error("an id that is revoked must be 1 to 64 characters of base64url")]
    Id,
    /// The bucket did not answer; whether it took place is unknown, and doing it again is safe.
    #[error("revocations are unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// Lost sixteen races in a row; try again.
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
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or brings an existing one to that form.
    ///
    /// # Errors
    /// [`RevocationBucketError::Provision`] if the server refuses, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), RevocationBucketError> {
        let config = kv::Config {
            bucket: BUCKET.to_owned(),
            description: "revoked tokens, sessions and epochs".to_owned(),
            max_value_size: MAX_VALUE_BYTES,
            num_replicas: replicas,
            limit_markers: Some(MARKER_TTL),
            // Each change goes to whoever watches without a consumer.
            republish: Some(Republish {
                source: format!("$KV.{BUCKET}.>"),
                destination: CHANGES.to_owned(),
                headers_only: false,
            }),
            ..kv::Config::default()
        };
        let failed = |error: Box<dyn Error + Send + Sync>| RevocationBucketError::Provision(error);
        let store = jetstream.create_or_update_key_value(config).await.map_err(|error| failed(error.into()))?;
        // The global epoch stays for good, so the bucket is never empty: who follows it can tell that
        // nothing is revoked from not having heard yet.
        let terms = Terms { epoch: Some(0), until: None };
        let message = publish(&Signed { terms, kid: None, sig: None }).map_err(failed)?;
        let written = revision::replace(jetstream, &store, &Target::Global.key(), message, 0).await;
        written.map(drop).map_err(|error| failed(error.into()))
    }

    /// Opens the bucket and checks that entries expire in it.
    ///
    /// # Errors
    /// [`RevocationBucketError::Bucket`] if it was not provisioned or cannot be asked,
    /// [`RevocationBucketError::NoTtl`] if it was made without limit markers.
    pub async fn open(connection: &Connection) -> Result<Self, RevocationBucketError> {
        let bucket = KvBucket::open_of_auth(connection, BUCKET).await?;
        if !bucket.current().await?.store.stream.cached_info().config.allow_message_ttl {
            return Err(RevocationBucketError::NoTtl);
        }
        Ok(Self { connection: connection.clone(), bucket, clock: Clock::default(), retention: RETENTION, signer: None })
    }

    /// Signs what it writes, so that services that watch without a consumer apply it as it arrives.
    ///
    /// Without a signature they read it from the bucket, up to some seconds later.
    #[must_use]
    pub fn signed_by(mut self, signer: &ChangeSigner) -> Self {
        self.signer = Some(signer.clone());
        self
    }

    /// Takes the time from `now` rather than from the system; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Remembers revocations for another time than 1 h and 65 s; for tests, or where no token lives as long.
    ///
    /// Whole seconds. A token that lives longer is good again when its revocation is forgotten.
    #[must_use]
    pub fn retention_at_least_the_lifetime_of_tokens(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// Revokes one token, by its `jti`.
    ///
    /// # Errors
    /// As [`RevocationError`] says.
    pub async fn token(&self, jti: &str) -> Result<(), RevocationError> {
        self.put(&Target::token(jti).ok_or(RevocationError::Id)?).await
    }

    /// Revokes all tokens of a session, by their `sid`.
    ///
    /// # Errors
    /// As [`RevocationError`] says.
    pub async fn session(&self, sid: &str) -> Result<(), RevocationError> {
        self.put(&Target::session(sid).ok_or(RevocationError::Id)?).await
    }

    /// Revokes all tokens of the user `sub` that were issued below `epoch`. One that is no higher than the
    /// known one changes nothing.
    ///
    /// # Errors
    /// [`RevocationError::Unavailable`], [`RevocationError::Contended`].
    pub async fn user(&self, sub: &str, epoch: u64) -> Result<(), RevocationError> {
        let target = Target::User(subject_digest(sub));
        self.raise(&target, |known| (known < Some(epoch)).then_some(epoch)).await.map(drop)
    }

    /// Revokes everybody's tokens, and gives the epoch that tokens have to be of from now on.
    ///
    /// # Errors
    /// [`RevocationError::Unavailable`], [`RevocationError::Contended`].
    pub async fn everybody(&self) -> Result<u64, RevocationError> {
        self.raise(&Target::Global, |known| Some(known.unwrap_or_default().saturating_add(1))).await
    }

    /// Writes an entry that says all by being there.
    async fn put(&self, target: &Target) -> Result<(), RevocationError> {
        let current = self.current().await?;
        let (message, is_signed) = self.entry(&current, target, None)?;
        let sent = current.jetstream.send_publish(revision::subject(&current.store, &target.key()), message);
        let published = async { sent.await?.await.map(drop) }.await;
        published.map_err(|error: PublishError| RevocationError::Unavailable(error.into()))?;
        self.announce(is_signed).await;
        Ok(())
    }

    /// Raises an epoch to what `next` makes of the known one, or leaves it; gives what it is then.
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

    /// The message of an entry and whether it is signed, with its time to live in the message itself: async-nats' `create_with_ttl`
    /// forgets it where an expired entry was, and `update` knows none.
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
        // A bucket of an earlier version has no room for a signature, until `provision` has run.
        let has_room = current.store.stream.cached_info().config.max_message_size >= MAX_VALUE_BYTES;
        let signer = self.signer.as_ref().filter(|_| has_room).map(ChangeSigner::signer);
        let signed = Signed::new(&target.key(), Terms { epoch, until }, signer, self.clock.unix_seconds());
        let message = publish(&signed).map_err(RevocationError::Unavailable)?;
        Ok((if until.is_some() { message.ttl(self.retention) } else { message }, signed.sig.is_some()))
    }

    /// What is not signed is read from the bucket: the instances of auth are asked to say that it is there.
    async fn announce(&self, is_signed: bool) {
        if !is_signed {
            ask_for_beacon(&self.connection).await;
        }
    }

    /// The bucket on the present client.
    async fn current(&self) -> Result<Arc<KvHandles>, RevocationError> {
        self.bucket.current().await.map_err(|error| RevocationError::Unavailable(error.into()))
    }
}

fn publish(signed: &Signed) -> Result<PublishMessage, Box<dyn Error + Send + Sync>> {
    Ok(PublishMessage::build().payload(serde_json::to_vec(signed)?.into()))
}

/// The epoch at a key, and the revision that a write replaces.
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
