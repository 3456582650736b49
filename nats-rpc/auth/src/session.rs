//! Sessions: opaque refresh tokens that rotate at every use, stored in JetStream KV.

mod bucket;
mod chain;
mod config;
mod error;
mod id;
mod judge;
mod living;
mod old_tokens;
mod outage;
mod record;
mod refresh;
mod token;

use std::fmt;
use std::sync::Arc;

use async_nats::jetstream;
use nats_rpc::Connection;
use nats_rpc_jwt::__private::Clock;
use nats_rpc_jwt::Revoker;

use self::bucket::{Bucket, Write};
use self::chain::Pepper;
use self::config::Limits;
use self::id::SessionId;
use self::judge::Judgement;
use self::old_tokens::OldTokens;
use self::outage::Outages;
use self::record::Record;
use self::token::RefreshToken;

pub use self::bucket::SessionBucketError;
pub use self::config::SessionConfig;
pub use self::error::SessionError;
pub use self::living::SessionInfo;

/// Sessions in the KV bucket `auth_sess`, and the refresh tokens that extend them.
///
/// A refresh token is opaque (`nrt1.` and 70 characters) and valid for one use: [`refresh`](Self::refresh) returns its
/// successor. For 10 s the same token returns the same successor again, so that a client stays logged in after a lost
/// reply or two simultaneous requests. After this grace period, reuse means that two parties hold tokens of one
/// session, and the session ends (reuse detection). An outage, such as the death of the node that leads the bucket,
/// extends the grace period, by a minute at most.
///
/// Other parts of a reply, such as an access token, are created before the token is replaced
/// ([`refresh_with`](Self::refresh_with)): a client that gets no reply still has a valid token.
///
/// The bucket contains no token and no secret. Each secret is the HMAC of its predecessor, with a pepper that only
/// auth instances have, and the bucket holds the SHA-256 of the current one. A forged token therefore changes nothing,
/// even with an existing session id.
///
/// Reads go to the stream's leader (`$JS.API.STREAM.MSG.GET.KV_auth_sess`), never to a follower that may be behind: it
/// would treat the newest token as forged.
///
/// With a [`Revoker`], the end of a session also revokes its access tokens, in every service.
///
/// ```no_run
/// use nats_rpc_jwt::SecretKey;
/// use nats_rpc_auth::{Owner, SessionConfig, Sessions};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// Sessions::provision(&connection.jetstream(), 3).await?; // once, by whoever deploys
///
/// let pepper = SecretKey::from_vars("JWT_REFRESH_SECRET", |name| std::env::var(name).ok())?;
/// let sessions = Sessions::open(&connection, SessionConfig::new(&pepper)).await?;
/// let first = sessions.create(Owner::new("0192f0c1", "account key")).await?;
/// let second = sessions.refresh(&first.refresh_token).await?;
/// sessions.log_out(&second.refresh_token).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sessions {
    bucket: Bucket,
    peppers: Vec<Pepper>,
    limits: Limits,
    revoker: Option<Arc<Revoker>>,
    outages: Outages,
    old_tokens: OldTokens,
    clock: Clock,
}

/// The owner of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The user's id; the `sub` of access tokens.
    pub user: String,
    /// The key by which the auth service looks up the user's account, such as [`Email::key`](super::Email::key).
    pub account: String,
    /// The user's epoch when the session began; a session of an earlier epoch has ended.
    pub user_epoch: u64,
    /// The global epoch when the session began.
    pub global_epoch: u64,
}

impl Owner {
    /// Creates an owner with this user id and account key, and epochs 0.
    pub fn new(user: impl Into<String>, account: impl Into<String>) -> Self {
        Self { user: user.into(), account: account.into(), user_epoch: 0, global_epoch: 0 }
    }

    /// Sets the user's epoch.
    #[must_use]
    pub fn user_epoch(mut self, epoch: u64) -> Self {
        self.user_epoch = epoch;
        self
    }

    /// Sets the global epoch.
    #[must_use]
    pub fn global_epoch(mut self, epoch: u64) -> Self {
        self.global_epoch = epoch;
        self
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Session {
    /// The session's id, 22 characters of base64url; the `sid` of access tokens.
    pub id: String,
    /// Its owner.
    pub owner: Owner,
}

/// A session with its current refresh token.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The session.
    pub session: Session,
    /// The token for the next [`Sessions::refresh`]: 75 characters, a secret.
    pub refresh_token: String,
    /// The sessions that ended because the user reached the maximum number of sessions.
    pub evicted: Vec<Session>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut issued = f.debug_struct("Issued");
        issued.field("session", &self.session).field("evicted", &self.evicted).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or updates an existing one to this configuration.
    ///
    /// # Errors
    /// [`SessionBucketError::Provision`] if the server rejects the request, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), SessionBucketError> {
        Bucket::provision(jetstream, replicas).await
    }

    /// Opens the bucket and checks that its sessions expire.
    ///
    /// # Errors
    /// [`SessionBucketError::Bucket`] if it was not provisioned or cannot be reached, [`SessionBucketError::NoTtl`] if
    /// it was created without limit markers.
    pub async fn open(connection: &Connection, config: SessionConfig) -> Result<Self, SessionBucketError> {
        let SessionConfig { peppers, limits, revoker, clock } = config;
        Ok(Self {
            bucket: Bucket::open(connection).await?,
            peppers,
            limits,
            revoker,
            outages: Outages::default(),
            old_tokens: OldTokens::default(),
            clock,
        })
    }

    /// Creates a session. If the user then exceeds the maximum number of sessions, the oldest ones end:
    /// [`Issued::evicted`].
    ///
    /// All instances order simultaneous sessions in the same way: by creation time, then by id. Each evicts only older
    /// ones, so the newest always survive. With clock skew between instances, a user may exceed the maximum until the
    /// next session is created.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if the session cannot be stored.
    pub async fn create(&self, owner: Owner) -> Result<Issued, SessionError> {
        // A configuration always contains the pepper of its creation as the first one.
        let pepper = self.peppers.first().ok_or(SessionError::Contended)?;
        let token = RefreshToken::random(&owner.user).map_err(SessionError::Unavailable)?;
        let now = self.clock.unix_millis();
        let record = Record::begin(&token, pepper, owner, now, &self.limits);
        if self.bucket.write(token.sid, &record, 0, now).await? == Write::Conflict {
            return Err(SessionError::Contended);
        }
        let evicted = self.evict(&record.owner.user, token.sid).await?;
        Ok(Issued { evicted, ..issued(&token, record.owner) })
    }

    /// Returns the session of a refresh token that [`refresh`](Self::refresh) would accept now. Changes nothing.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] for any other token, [`SessionError::Unavailable`] if the bucket does not reply.
    pub async fn get(&self, refresh_token: &str) -> Result<SessionInfo, SessionError> {
        let presented = RefreshToken::parse(refresh_token).ok_or(SessionError::Invalid)?;
        let (record, _) = self.bucket.read(presented.sid).await?.ok_or(SessionError::Invalid)?;
        match self.judge_token(&record, &presented, self.limits.grace).await? {
            Judgement::Current | Judgement::Repeated => Ok(SessionInfo::new(presented.sid, record)),
            Judgement::Reused | Judgement::Spent | Judgement::Invalid => Err(SessionError::Invalid),
        }
    }

    /// Ends the session of a refresh token, whether it is the current or an earlier one.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if the token is not a genuine token of a live session, [`SessionError::Unavailable`]
    /// if the bucket does not reply.
    pub async fn log_out(&self, refresh_token: &str) -> Result<Session, SessionError> {
        let presented = RefreshToken::parse(refresh_token).ok_or(SessionError::Invalid)?;
        let id = presented.sid;
        let (record, _) = self.bucket.read(id).await?.ok_or(SessionError::Invalid)?;
        match self.judge_token(&record, &presented, self.limits.grace).await? {
            Judgement::Invalid => Err(SessionError::Invalid),
            _ => self.finish(id, record).await,
        }
    }

    /// Ends a session and revokes its access tokens.
    async fn finish(&self, id: SessionId, record: Record) -> Result<Session, SessionError> {
        let session = Session { id: id.to_string(), owner: record.owner };
        // The revocation comes first: once the session is removed, its token can no longer repeat it.
        if let Some(revoker) = &self.revoker {
            revoker.session(&session.id).await.map_err(|error| SessionError::Unavailable(error.into()))?;
        }
        // Without a revision check: a concurrent rotation must not survive the removal.
        self.bucket.remove(id).await?;
        Ok(session)
    }

    fn pepper(&self, record: &Record, presented: &RefreshToken) -> Result<&Pepper, SessionError> {
        let pepper = self.peppers.iter().find(|pepper| pepper.id() == record.pepper);
        pepper.ok_or_else(|| {
            tracing::warn!(sid = %presented.sid, "session of an unknown pepper refused");
            SessionError::Invalid
        })
    }
}

fn issued(token: &RefreshToken, owner: Owner) -> Issued {
    Issued {
        session: Session { id: token.sid.to_string(), owner },
        refresh_token: token.to_string(),
        evicted: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use nats_rpc_jwt::SecretKey;

    use super::*;

    #[test]
    fn no_token_and_no_pepper_is_printed() {
        let token = RefreshToken::random("u1").unwrap();
        let pepper = SecretKey::new("JWT_REFRESH_SECRET", "correct horse battery staple, twice").unwrap();
        let printed = format!("{:?} {:?} {token:?}", issued(&token, Owner::new("u", "a")), SessionConfig::new(&pepper));
        assert!(!printed.contains("nrt1") && !printed.contains("horse"), "{printed}");
    }
}
