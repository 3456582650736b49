use std::error::Error;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, KeyValueError};
use async_nats::jetstream::{self, ErrorCode, kv};

use super::Connection;

/// A KV bucket that is reopened after the connection was renewed.
///
/// A [`kv::Store`] belongs to one async-nats client and ends with it. This type stores the name, and opens the store
/// again when the [generation](Connection::generation) of the connection has changed.
///
/// ```no_run
/// use nats_rpc::prelude::*;
/// use nats_rpc::KvBucket;
/// use std::sync::Arc;
///
/// #[message_pattern("settings.{key}")]
/// async fn setting(State(settings): State<Arc<KvBucket>>, Param(key): Param<String>) -> Result<String, RpcError> {
///     let value = settings.current().await.internal()?.store.get(key).await.internal()?;
///     let value = value.ok_or_else(|| RpcError::not_found("no such setting"))?;
///     String::from_utf8(value.to_vec()).internal()
/// }
///
/// let service = Service::new("settings", "1.0.0").handlers(handlers![setting]).provide_with(
///     async |context: ServiceContext| KvBucket::open(context.connection(), "settings").await.map(Arc::new),
/// );
/// ```
pub struct KvBucket {
    connection: Connection,
    name: String,
    /// The prefix of the JetStream API that has the bucket; `None` for the account's own.
    api: Option<String>,
    current: ArcSwap<KvHandles>,
}

/// A bucket on the current client; get it again for each use.
#[derive(Debug)]
#[non_exhaustive]
pub struct KvHandles {
    /// The bucket.
    pub store: kv::Store,
    /// JetStream on the same client, for operations that a store lacks.
    pub jetstream: jetstream::Context,
    /// The prefix of the JetStream API that has the bucket.
    pub api: Box<str>,
    generation: u64,
}

impl KvHandles {
    /// Wraps a bucket of the account's own, for a single use.
    pub fn of(jetstream: &jetstream::Context, store: kv::Store) -> Self {
        Self { store, jetstream: jetstream.clone(), api: "$JS.API".into(), generation: 0 }
    }
}

impl KvBucket {
    /// Opens the existing bucket `name` in the account of the connection, or in the account set by
    /// [`NatsConfig::kv_api_prefix`](crate::NatsConfig::kv_api_prefix).
    ///
    /// # Errors
    /// [`KvError::Missing`] if it does not exist, [`KvError::Forbidden`] if this user may not send the request,
    /// [`KvError::JetStream`] if JetStream rejects the request or does not reply.
    pub async fn open(connection: &Connection, name: impl Into<String>) -> Result<Self, KvError> {
        let name = name.into();
        let api = connection.kv_api_prefix(&name).map(str::to_owned);
        Self::open_at(connection, name, api).await
    }

    /// Opens a bucket with keys or revocations, in the account where auth keeps it.
    ///
    /// That is the account set by [`NatsConfig::auth_js_api_prefix`](crate::NatsConfig::auth_js_api_prefix), or else
    /// the account of the connection.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_of_auth(connection: &Connection, name: &str) -> Result<Self, KvError> {
        Self::open_at(connection, name.to_owned(), connection.auth_js_api_prefix().map(str::to_owned)).await
    }

    async fn open_at(connection: &Connection, name: String, api: Option<String>) -> Result<Self, KvError> {
        let current = ArcSwap::new(find(connection, &name, api.as_deref()).await?);
        Ok(Self { connection: connection.clone(), name, api, current })
    }

    /// Returns the bucket on the current client. Without a renewal in between, this costs one comparison and no
    /// message.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn current(&self) -> Result<Arc<KvHandles>, KvError> {
        let current = self.current.load_full();
        if current.generation == self.connection.generation() {
            return Ok(current);
        }
        let renewed = find(&self.connection, &self.name, self.api.as_deref()).await?;
        self.current.store(renewed.clone());
        Ok(renewed)
    }

    /// Returns the bucket's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for KvBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KvBucket").field(&self.name).finish()
    }
}

async fn find(connection: &Connection, name: &str, api: Option<&str>) -> Result<Arc<KvHandles>, KvError> {
    let live = connection.live();
    let api = api.unwrap_or("$JS.API");
    let jetstream = jetstream::with_prefix(live.nats.clone(), api);
    let asked = format!("{api}.STREAM.INFO.KV_{name}");
    let inbox = connection.inbox_prefix();
    let forbidden = connection.forbidden(move |violation| violation.subject == asked || violation.is_of_inbox(&inbox));
    let found = tokio::select! {
        found = jetstream.get_key_value(name) => found,
        violation = forbidden => {
            return Err(KvError::Forbidden { name: name.to_owned(), subject: violation.subject });
        }
    };
    let store = found.map_err(|error| match is_not_found(&error) {
        true => KvError::Missing { name: name.to_owned() },
        false => KvError::JetStream { name: name.to_owned(), source: error.into() },
    })?;
    Ok(Arc::new(KvHandles { store, jetstream, api: api.into(), generation: live.generation }))
}

/// The reason that a bucket cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// The bucket does not exist; it has not been provisioned.
    #[error("the KV bucket {name} does not exist; run `provision` first")]
    #[non_exhaustive]
    Missing {
        /// The bucket.
        name: String,
    },
    /// nats-server forbids this user a subject that opening the bucket needs.
    #[error("nats-server forbids this user the KV bucket {name}: it needs a permission for {subject:?}")]
    #[non_exhaustive]
    Forbidden {
        /// The bucket.
        name: String,
        /// The forbidden subject.
        subject: String,
    },
    /// JetStream rejected the request or did not reply.
    #[error("JetStream does not give the KV bucket {name}: {source}")]
    #[non_exhaustive]
    JetStream {
        /// The bucket.
        name: String,
        /// The error of JetStream.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Returns `true` if a write bound to a revision failed because the key has another revision.
///
/// async-nats recognizes only one of the two codes as a wrong sequence; a replicated stream also sends the other.
///
/// ```no_run
/// # use nats_rpc::is_kv_conflict;
/// # async fn write(store: async_nats::jetstream::kv::Store, seen: u64) -> Result<(), Box<dyn std::error::Error>> {
/// match store.update("key", "value".into(), seen).await {
///     Ok(_) => println!("written"),
///     Err(error) if is_kv_conflict(&error) => println!("somebody was faster"),
///     Err(error) => return Err(error.into()),
/// }
/// # Ok(())
/// # }
/// ```
pub fn is_kv_conflict(error: &(dyn Error + 'static)) -> bool {
    let codes = [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.filter_map(|error| error.downcast_ref::<jetstream::Error>()).any(|error| codes.contains(&error.error_code()))
}

/// Returns `true` if the bucket does not exist; async-nats wraps the server's error code in an error kind.
fn is_not_found(error: &KeyValueError) -> bool {
    let kind = error.source().and_then(|source| source.downcast_ref()).map(GetStreamError::kind);
    matches!(kind, Some(GetStreamErrorKind::JetStream(error)) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::context::{PublishError, PublishErrorKind};

    use super::*;

    fn server_said(code: u64) -> jetstream::Error {
        serde_json::from_value(serde_json::json!({ "code": 400, "err_code": code, "description": "d" })).unwrap()
    }

    #[test]
    fn both_codes_of_a_lost_race_are_conflicts() {
        for (code, kind) in [(10071, PublishErrorKind::WrongLastSequence), (10164, PublishErrorKind::Other)] {
            assert!(is_kv_conflict(&PublishError::with_source(kind, server_said(code))), "{code}");
        }
        assert!(!is_kv_conflict(&PublishError::with_source(PublishErrorKind::Other, server_said(10077))));
        assert!(!is_kv_conflict(&PublishError::new(PublishErrorKind::TimedOut)));
    }
}
