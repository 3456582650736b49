//! Sessions: opaque refresh tokens that change at every use, kept in JetStream KV.

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

/// Sessions in the KV bucket `auth_sess`, and the refresh tokens that prolong them.
///
/// A refresh token is opaque (`nrt1.` and 70 characters) and good for one use: [`refresh`](Self::refresh)
/// gives its successor. For 10 s the same token gives the same successor once more, so that a client whose
/// answer was lost, or that asked twice at once, stays logged in. After that, its use means that two
/// parties hold tokens of one session, and the session ends. While nobody could be answered, as when the
/// node that leads the bucket has died, these 10 s stand still, for a minute at most.
///
/// What else an answer needs, such as an access token, is made before a token is used up
/// ([`refresh_with`](Self::refresh_with)): a client that gets no answer keeps a token that is good.
///
/// Nothing in the bucket is a token or a secret: secrets follow from each other by HMAC with a pepper that
/// only auth instances know, and the bucket holds the SHA-256 of the current one. A forged token therefore
/// changes nothing, even with a session id that exists.
///
/// Reads go to the stream's leader (`$JS.API.STREAM.MSG.GET.KV_auth_sess`), never to a follower that may be
/// behind: the newest token would look forged there.
///
/// With a [`Revoker`], the access tokens of a session end with it, everywhere.
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

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The user's id; the `sub` of access tokens.
    pub user: String,
    /// Where the auth service finds the user's account again, such as [`Email::key`](super::Email::key).
    pub account: String,
    /// The user's epoch when the session began; a session of an epoch that the user has left has ended.
    pub user_epoch: u64,
    /// The same, of everybody.
    pub global_epoch: u64,
}

impl Owner {
    /// The owner with this user id and account key, whose epochs are 0.
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
    /// Whose it is.
    pub owner: Owner,
}

/// A session with the refresh token that prolongs it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Issued {
    /// The session.
    pub session: Session,
    /// The token for the next [`Sessions::refresh`]: 75 characters, a secret.
    pub refresh_token: String,
    /// The sessions that had to end for this one to begin, as the user has no more than the cap allows.
    pub evicted: Vec<Session>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut issued = f.debug_struct("Issued");
        issued.field("session", &self.session).field("evicted", &self.evicted).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Creates the bucket with `replicas` copies (1, 3 or 5), or brings an existing one to that form.
    ///
    /// # Errors
    /// [`SessionBucketError::Provision`] if the server refuses, cannot be reached, or is older than 2.11.
    pub async fn provision(jetstream: &jetstream::Context, replicas: usize) -> Result<(), SessionBucketError> {
        Bucket::provision(jetstream, replicas).await
    }

    /// Opens the bucket and checks that sessions expire in it.
    ///
    /// # Errors
    /// [`SessionBucketError::Bucket`] if it was not provisioned or cannot be asked,
    /// [`SessionBucketError::NoTtl`] if it was made without limit markers.
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

    /// Begins a session. If the user then has more than the cap allows, the oldest end:
    /// [`Issued::evicted`].
    ///
    /// Sessions that begin at once, on any instance, are in one order: by the time they began, then by id. Each ends
    /// none but older ones, so the newest always live. Where the clocks of instances differ, sessions may be over the
    /// cap until the next one begins.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] if it cannot be stored.
    pub async fn create(&self, owner: Owner) -> Result<Issued, SessionError> {
        // A configuration always holds the pepper it was made with, as the first.
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

    /// The session of a refresh token that [`refresh`](Self::refresh) would take now. Changes nothing.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] for any other token, [`SessionError::Unavailable`] if the bucket does not
    /// answer.
    pub async fn get(&self, refresh_token: &str) -> Result<SessionInfo, SessionError> {
        let presented = RefreshToken::parse(refresh_token).ok_or(SessionError::Invalid)?;
        let (record, _) = self.bucket.read(presented.sid).await?.ok_or(SessionError::Invalid)?;
        match self.judge_token(&record, &presented, self.limits.grace).await? {
            Judgement::Current | Judgement::Repeated => Ok(SessionInfo::new(presented.sid, record)),
            Judgement::Reused | Judgement::Spent | Judgement::Invalid => Err(SessionError::Invalid),
        }
    }

    /// Ends the session of a refresh token, be it the current one or an earlier one.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] if the token is no genuine token of a living session,
    /// [`SessionError::Unavailable`] if the bucket does not answer.
    pub async fn log_out(&self, refresh_token: &str) -> Result<Session, SessionError> {
        let presented = RefreshToken::parse(refresh_token).ok_or(SessionError::Invalid)?;
        let id = presented.sid;
        let (record, _) = self.bucket.read(id).await?.ok_or(SessionError::Invalid)?;
        match self.judge_token(&record, &presented, self.limits.grace).await? {
            Judgement::Invalid => Err(SessionError::Invalid),
            _ => self.finish(id, record).await,
        }
    }

    /// Ends a session with its access tokens.
    async fn finish(&self, id: SessionId, record: Record) -> Result<Session, SessionError> {
        let session = Session { id: id.to_string(), owner: record.owner };
        // First, as it could not be done again by whoever holds a token of a session that is gone.
        if let Some(revoker) = &self.revoker {
            revoker.session(&session.id).await.map_err(|error| SessionError::Unavailable(error.into()))?;
        }
        // Whatever revision it has by now: a rotation that runs meanwhile must not outlive it.
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
