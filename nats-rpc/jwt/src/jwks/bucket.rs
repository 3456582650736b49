//! The bucket of a key ring, for programs that may write to it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use nats_rpc::kv::{leader, revision};
use nats_rpc::{Connection, KvBucket, KvError, KvHandles, KvRecord};
use time::OffsetDateTime;

use super::{KeyPurpose, KeysError};
use crate::doubled::doubled;
use crate::watch::ask_for_beacon;
use crate::{Document, Entry, KeyRing, KeyRingError};

/// The key of the document.
pub(crate) const RING: &str = "ring";
/// The key whose every change requests new key pairs from all instances.
pub(crate) const ROTATE: &str = "rotate";
/// Some 800 keys: the limit for an instance that restarts endlessly.
const MAX_DOCUMENT_BYTES: i32 = 262_144;
/// The time limit of retries of a change that loses races.
const AMEND_LIMIT: Duration = Duration::from_secs(10);
/// The maximum pause before the first retry of a change; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// The longest pause before a retry of a change.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

type BoxError = Box<dyn Error + Send + Sync>;

/// The KV bucket of a key ring, for provisioning and for operators.
///
/// ```no_run
/// use nats_rpc_jwt::{KeyPurpose, JwksBucket};
///
/// # async fn example(connection: nats_rpc::Connection) -> Result<(), Box<dyn std::error::Error>> {
/// JwksBucket::provision(&connection.jetstream(), KeyPurpose::AccessTokens, 3).await?; // once, by whoever deploys
///
/// let ring = JwksBucket::open(&connection, KeyPurpose::AccessTokens).await?;
/// for key in ring.list().await? {
///     println!("{} until {}", key.kid, key.not_after);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct JwksBucket {
    bucket: KvBucket,
    purpose: KeyPurpose,
    connection: Connection,
}

/// A public key in a ring. Times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishedKey {
    /// The key's id: its RFC 7638 thumbprint, if one of our instances published it.
    pub kid: String,
    /// The permitted algorithm.
    pub alg: String,
    /// The permitted token type.
    pub typ: String,
    /// The permitted issuer.
    pub iss: String,
    /// The instance that published the key.
    pub instance: Option<String>,
    /// The start of its use.
    pub not_before: u64,
    /// The end of its use, unless its instance extends it.
    pub not_after: u64,
}

impl From<&Entry> for PublishedKey {
    fn from(entry: &Entry) -> Self {
        Self {
            kid: entry.kid.clone(),
            alg: entry.alg.clone(),
            typ: entry.typ.clone(),
            iss: entry.iss.clone(),
            instance: entry.instance.clone(),
            not_before: entry.not_before(),
            not_after: entry.not_after(),
        }
    }
}

impl JwksBucket {
    /// Creates the bucket with `replicas` copies (1, 3 or 5) and an empty ring; an existing one keeps its keys.
    ///
    /// An invalid document that no running instance has repaired is replaced by an empty one.
    ///
    /// # Errors
    /// [`KeysError::Provision`] if the server rejects the request or cannot be reached.
    pub async fn provision(
        jetstream: &jetstream::Context,
        purpose: KeyPurpose,
        replicas: usize,
    ) -> Result<(), KeysError> {
        let bucket = purpose.bucket();
        let config = kv::Config {
            bucket: bucket.to_owned(),
            description: "public keys of tokens; no secrets".to_owned(),
            max_value_size: MAX_DOCUMENT_BYTES,
            num_replicas: replicas,
            ..kv::Config::default()
        };
        let failed = |source: Box<dyn Error + Send + Sync>| KeysError::Provision { bucket, source };
        let store = jetstream.create_or_update_key_value(config).await.map_err(|error| failed(error.into()))?;
        // This is needed beyond the first read: a bucket without any key cannot be recognized as empty.
        let empty = PublishMessage::build().payload(Bytes::from_static(br#"{"version":1,"keys":[]}"#));
        // An existing one stays.
        let written = revision::replace(jetstream, &store, RING, empty, 0).await;
        if !written.map_err(|error| failed(error.into()))? {
            mend(&KvHandles::of(jetstream, store), purpose).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Opens the bucket.
    ///
    /// # Errors
    /// [`KeysError::NotProvisioned`] if it does not exist, [`KeysError::Bucket`] if JetStream does not return it.
    pub async fn open(connection: &Connection, purpose: KeyPurpose) -> Result<Self, KeysError> {
        let bucket = KvBucket::open_of_auth(connection, purpose.bucket()).await;
        let bucket = bucket.map_err(|error| not_opened(purpose, error))?;
        Ok(Self { bucket, purpose, connection: connection.clone() })
    }

    /// Lists all keys in the ring, including those not yet or no longer in use.
    ///
    /// # Errors
    /// [`KeysError::Unavailable`] if the bucket does not reply, [`KeysError::Document`] if it holds no valid key
    /// document.
    pub async fn list(&self) -> Result<Vec<PublishedKey>, KeysError> {
        let (found, revision) = self.read(RING).await?;
        let basis = basis(found.as_deref(), revision, None).map_err(|source| self.unusable(source))?;
        Ok(basis.document.keys.iter().chain(&basis.unbelieved).map(PublishedKey::from).collect())
    }

    /// Removes a key from the ring: within milliseconds no verifier accepts its tokens. Returns the ids of all keys
    /// removed with it.
    ///
    /// The instance that signs with it, if it runs, generates another one at once. A retired key never returns.
    ///
    /// From a document with an implausible version, which verifiers reject, all keys are removed: the remaining ones
    /// would become valid, although their author is unknown. Running honest instances publish new ones.
    ///
    /// # Errors
    /// [`KeysError::UnknownKey`] if the ring does not contain it, [`KeysError::Contended`],
    /// [`KeysError::Unavailable`], [`KeysError::Document`].
    pub async fn retire(&self, kid: &str) -> Result<Vec<String>, KeysError> {
        let mut gone = Vec::new();
        let remove = |document: &mut Document, unbelieved: &[Entry]| {
            let is_it = |entry: &Entry| entry.kid == kid;
            if !document.keys.iter().chain(unbelieved).any(is_it) {
                return Err(KeysError::unknown_key(kid));
            }
            document.keys.retain(|entry| !is_it(entry));
            gone = unbelieved.iter().filter(|entry| !is_it(entry)).map(|entry| entry.kid.clone()).collect();
            Ok(())
        };
        self.amend(None, remove).await?;
        self.announce().await;
        Ok(gone)
    }

    /// Requests every running instance to sign with a new key pair; tokens signed with the old ones stay valid.
    ///
    /// It returns as soon as the request is written.
    ///
    /// # Errors
    /// [`KeysError::Unavailable`] if the bucket does not accept the request.
    pub async fn rotate(&self) -> Result<(), KeysError> {
        let handles = self.bucket.current().await.map_err(|error| self.unavailable(error))?;
        // Only its revision matters.
        let subject = revision::subject(&handles.store, ROTATE);
        let put = async { handles.jetstream.publish(subject, Bytes::new()).await?.await };
        put.await.map_err(|error| self.unavailable(error))?;
        self.announce().await;
        Ok(())
    }

    /// Changes the document by compare-and-set, and returns the written one.
    ///
    /// `known` is the last valid document that the caller has seen. With it, a malformed or older document is
    /// repaired; without it, such a document is an error. `change` also receives keys that verifiers reject.
    pub(super) async fn amend(
        &self,
        known: Option<&Document>,
        mut change: impl FnMut(&mut Document, &[Entry]) -> Result<(), KeysError>,
    ) -> Result<Document, KeysError> {
        let give_up = tokio::time::Instant::now() + AMEND_LIMIT;
        let mut tries = 0_u32;
        loop {
            let (found, revision) = self.read(RING).await?;
            let basis = basis(found.as_deref(), revision, known).map_err(|source| self.unusable(source))?;
            let Basis { mut document, unbelieved } = basis;
            change(&mut document, &unbelieved)?;
            document.version = document.version.saturating_add(1);
            if self.write(&document, revision).await? {
                return Ok(document);
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(KeysError::Contended { bucket: self.purpose.bucket() });
            }
            // Competing writers wait for different times, and in each race one succeeds.
            let pause = doubled(FIRST_PAUSE, tries, LONGEST_PAUSE);
            tokio::time::sleep(pause.mul_f64(fastrand::f64())).await;
            tries = tries.saturating_add(1);
        }
    }

    /// Returns the creation time of the bucket, which distinguishes it from another one of the same name.
    pub(super) async fn created(&self) -> Result<OffsetDateTime, KeysError> {
        let handles = self.bucket.current().await.map_err(|error| self.unavailable(error))?;
        leader::info(&handles.store).await.map(|info| info.created).map_err(|error| self.unavailable(error))
    }

    /// Returns the value of `key` and its revision from the stream's leader; revision 0 if it never had one.
    pub(crate) async fn read(&self, key: &str) -> Result<(Option<Bytes>, u64), KeysError> {
        let handles = self.current().await?;
        let record = handles.latest(key).await.map_err(|error| self.unavailable(error))?;
        Ok(record.map_or((None, 0), |record| (document(&handles, &record), record.revision)))
    }

    /// Returns the bucket on the present client.
    pub(crate) async fn current(&self) -> Result<Arc<KvHandles>, KeysError> {
        self.bucket.current().await.map_err(|error| self.unavailable(error))
    }

    /// Requests auth to announce a change of the ring to verifiers at once. If that fails, the next beacon does.
    async fn announce(&self) {
        ask_for_beacon(&self.connection).await;
    }

    /// Replaces `revision` by `document`; returns `false` if the bucket has another revision.
    async fn write(&self, document: &Document, revision: u64) -> Result<bool, KeysError> {
        let value = serde_json::to_vec(document).map_err(|error| self.unavailable(error))?;
        let message = PublishMessage::build().payload(value.into());
        let handles = self.bucket.current().await.map_err(|error| self.unavailable(error))?;
        let written = revision::replace(&handles.jetstream, &handles.store, RING, message, revision).await;
        written.map_err(|error| self.unavailable(error))
    }

    fn unavailable(&self, source: impl Into<Box<dyn Error + Send + Sync>>) -> KeysError {
        KeysError::Unavailable { bucket: self.purpose.bucket(), source: source.into() }
    }

    fn unusable(&self, source: KeyRingError) -> KeysError {
        KeysError::Document { bucket: self.purpose.bucket(), source }
    }
}

/// Returns the value of a record; if its headers are unreadable, a value that is not a valid document.
fn document(handles: &KvHandles, record: &KvRecord) -> Option<Bytes> {
    let (bucket, key, revision) = (&handles.store.name, &record.key, record.revision);
    if record.has_bad_headers {
        tracing::error!(bucket, key, revision, "ALARM: a record has headers that no client can read");
        return record.value.as_ref().map(|_| Bytes::new());
    }
    record.value.clone()
}

/// Replaces an invalid document by an empty one, as it cannot be repaired here.
///
/// A running instance restores the last valid document instead. This is for deployments where none runs.
async fn mend(handles: &KvHandles, purpose: KeyPurpose) -> Result<(), BoxError> {
    let bucket = purpose.bucket();
    let record = match handles.latest(RING).await {
        Ok(record) => record,
        // The key exists, and the provisioning user may not read it.
        Err(error) => {
            tracing::warn!(%error, bucket, "the key document was not checked");
            return Ok(());
        }
    };
    let Some(record) = record else { return Ok(()) };
    let good = |value: Bytes| KeyRing::read_own(&value).is_ok_and(|it| it.check_version(record.revision).is_ok());
    if document(handles, &record).is_some_and(good) {
        return Ok(());
    }
    tracing::warn!(bucket, revision = record.revision, "the key document cannot be used: an empty one takes its place");
    let empty = Document { version: record.revision.saturating_add(1), keys: Vec::new() };
    let message = PublishMessage::build().payload(serde_json::to_vec(&empty)?.into());
    // If another writer was faster, it has repaired the document.
    Ok(revision::replace(&handles.jetstream, &handles.store, RING, message, record.revision).await.map(drop)?)
}

pub(super) fn not_opened(purpose: KeyPurpose, error: KvError) -> KeysError {
    match error {
        KvError::Missing { .. } => KeysError::NotProvisioned { bucket: purpose.bucket() },
        error => KeysError::Bucket(error),
    }
}

/// The basis of a change.
struct Basis {
    document: Document,
    /// Keys of a document with an implausible version: to be listed, and never to be written.
    unbelieved: Vec<Entry>,
}

/// Returns the document on which a change of the one found at `revision` is based.
///
/// The found document is the basis if a verifier would accept it after `known`. Otherwise an unauthorized writer wrote
/// it, or an old bucket was restored; a change of it would bring back retired keys.
///
/// If the version is implausible and `known` is `None`, the basis has no keys and its version continues from the
/// revision, which no honest version exceeded. The version of a repair continues from the revision as well: the bucket
/// may be new, with versions from 0.
fn basis(found: Option<&[u8]>, revision: u64, known: Option<&Document>) -> Result<Basis, KeyRingError> {
    let mut unbelieved = Vec::new();
    let read = KeyRing::read_own(found.unwrap_or(br#"{"version":0,"keys":[]}"#));
    let checked = read.and_then(|found| match found.check_version(revision) {
        Err(_) if known.is_none() => {
            unbelieved.clone_from(&found.keys);
            Ok(Arc::new(Document { version: revision, keys: Vec::new() }))
        }
        checked => checked.map(|()| found),
    });
    let document = match (checked, known) {
        (Ok(found), Some(known)) if found.version <= known.version => known.clone(),
        (Ok(found), _) => Document::clone(&found),
        (Err(_), Some(known)) => Document { version: known.version.max(revision), keys: known.keys.clone() },
        (Err(error), None) => return Err(error),
    };
    Ok(Basis { document, unbelieved })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(version: u64) -> Document {
        Document { version, keys: Vec::new() }
    }

    /// Returns the version of the basis for a document found at revision 20.
    fn version(found: Option<&str>, known: Option<u64>) -> Option<u64> {
        let known = known.map(document);
        basis(found.map(str::as_bytes), 20, known.as_ref()).ok().map(|basis| basis.document.version)
    }

    /// Creates a document with one key in it.
    fn planted(version: u64) -> String {
        let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let kid = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        let key = format!(r#"{{"kid":"{kid}","alg":"EdDSA","typ":"t","iss":"i","jwk":{jwk}}}"#);
        format!(r#"{{"version":{version},"keys":[{key}]}}"#)
    }

    #[test]
    fn a_change_begins_with_the_newest_good_document() {
        let found = Some(r#"{"version":7,"keys":[]}"#);
        assert_eq!(version(found, None), Some(7));
        assert_eq!(version(found, Some(6)), Some(7));
        assert_eq!(version(found, Some(8)), Some(8));
        assert_eq!(version(None, Some(8)), Some(8));
        assert_eq!(version(None, None), Some(0));
    }

    #[test]
    fn a_document_that_differs_from_the_known_one_has_to_be_newer() {
        let planted = planted(7);
        let keys = |known| basis(Some(planted.as_bytes()), 7, Some(&document(known))).unwrap().document.keys.len();
        assert_eq!((keys(6), keys(7), keys(8)), (1, 0, 0));
    }

    #[test]
    fn a_bad_document_is_put_right_only_by_who_knows_a_good_one() {
        let private =
            r#"{"version":9,"keys":[{"kid":"k","alg":"EdDSA","typ":"t","iss":"i","jwk":{"kty":"oct","k":"AA"}}]}"#;
        for bad in ["", "[]", private] {
            assert_eq!(version(Some(bad), Some(800)), Some(800), "{bad}");
            assert_eq!(version(Some(bad), Some(0)), Some(20), "{bad}: above all that others may know");
            assert_eq!(version(Some(bad), None), None, "{bad}");
        }
    }

    #[test]
    fn a_version_that_cannot_be_is_counted_on_from_by_nobody() {
        for highest in [u64::MAX, u64::MAX - 1, 1 << 62] {
            let found = planted(highest);
            let basis = |known: Option<u64>| basis(Some(found.as_bytes()), 20, known.map(document).as_ref()).unwrap();
            let begins = |known: Option<u64>| basis(known).document;
            let of_another = begins(Some(800));
            assert_eq!((of_another.version, of_another.keys.len()), (800, 0), "its keys are not believed");
            let of_a_new_one = begins(Some(5));
            assert_eq!((of_a_new_one.version, of_a_new_one.keys.len()), (20, 0), "above all that others may know");
            let honest: Document = serde_json::from_str(&planted(5)).unwrap();
            let kept = super::basis(Some(found.as_bytes()), 20, Some(&honest)).unwrap();
            assert_eq!((kept.document.version, kept.document.keys.len()), (20, 1), "what was known stays");
            assert!(kept.unbelieved.is_empty());
            let alone = basis(None);
            assert_eq!((alone.document.version, alone.document.keys.len()), (20, 0), "never to be written");
            assert_eq!(alone.unbelieved.len(), 1, "to be seen");
        }
    }
}
