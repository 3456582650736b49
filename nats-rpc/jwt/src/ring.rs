//! The key ring: public keys by key id, replaced as a whole.

pub(crate) mod document;
mod error;
mod feed;
mod jwks;
mod keys;
mod unknown;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use self::document::Document;
pub use self::error::KeyRingError;
pub(crate) use self::feed::{Feed, WeakKeyRing};
pub use self::jwks::JwkSet;
use self::keys::{KeyIds, Keys};
use self::unknown::Unknown;
use super::clock::Clock;
use super::header::same_media_type;
use super::keys::VerifyingKey;

/// The public keys that verify tokens, shared by all verifiers of the process.
///
/// A document lists the keys, each with the one algorithm, token type and issuer that it may be used for. A key may
/// have a start and an end of use (seconds since 1970):
///
/// ```json
/// { "version": 7, "keys": [
///   { "kid": "…", "alg": "EdDSA", "typ": "at+jwt", "iss": "nats-rpc-auth",
///     "not_before": 1800000000, "not_after": 1800001100,
///     "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "…" } } ] }
/// ```
///
/// Algorithms are `EdDSA`, `ES256` and `RS256`. Clones share one ring: [`replace`](Self::replace) on one of them
/// affects all. [`watch`](Self::watch) returns the ring that auth instances publish.
///
/// ```
/// use nats_rpc_jwt::KeyRing;
///
/// let ring = KeyRing::from_json(br#"{ "version": 1, "keys": [] }"#)?;
/// assert_eq!(ring.version(), 1);
/// // An older document never takes the place of a newer one.
/// assert!(ring.replace(br#"{ "version": 1, "keys": [] }"#).is_err());
/// # Ok::<_, nats_rpc_jwt::KeyRingError>(())
/// ```
#[derive(Clone)]
pub struct KeyRing(Arc<Inner>);

struct Inner {
    keys: ArcSwap<Keys>,
    key_ids: KeyIds,
    versions: watch::Sender<u64>,
    unknown: Unknown,
    feed: OnceLock<Feed>,
}

impl KeyRing {
    /// Reads a key document.
    ///
    /// A key of an unknown kind is omitted, with a warning in the log. A key that no key generation produces is
    /// omitted with an error in the log. Such keys are an Ed25519 point of small order or in a second encoding, a
    /// point off its curve, an RSA modulus that is short, even or has a small factor, and an RSA exponent other than
    /// 65537. The other keys of the document stay in use. Keys may have any id here, as keys of other issuers do.
    ///
    /// # Errors
    /// [`KeyRingError`] if the document is malformed, holds private or symmetric keys, or an id twice.
    pub fn from_json(document: &[u8]) -> Result<Self, KeyRingError> {
        Ok(Self::of(Keys::parse(document, KeyIds::Any)?, KeyIds::Any))
    }

    /// Creates a ring of version 0 without keys, for the system's own documents, whose key ids are thumbprints.
    pub(crate) fn empty() -> Self {
        Self::of(Keys::default(), KeyIds::Thumbprints)
    }

    /// Parses a document of the system's own, as a verifier would accept it at a revision that fits its version.
    pub(crate) fn read_own(document: &[u8]) -> Result<Arc<Document>, KeyRingError> {
        Keys::parse(document, KeyIds::Thumbprints).map(|keys| keys.document)
    }

    fn of(keys: Keys, key_ids: KeyIds) -> Self {
        keys.report();
        let versions = watch::Sender::new(keys.document.version);
        let (unknown, feed) = (Unknown::default(), OnceLock::new());
        Self(Arc::new(Inner { keys: ArcSwap::from_pointee(keys), key_ids, versions, unknown, feed }))
    }

    /// Replaces the document in use, for all verifiers at once.
    ///
    /// # Errors
    /// Those of [`from_json`](Self::from_json), and [`KeyRingError::Stale`] if its version is not above the one in
    /// use; for a [watched](Self::watch) ring, [`KeyRingError::KeyId`]. The keys in use then stay unchanged.
    pub fn replace(&self, document: &[u8]) -> Result<(), KeyRingError> {
        self.take(&Keys::parse(document, self.0.key_ids)?)
    }

    /// Replaces the document like [`replace`](Self::replace), by one found at `revision` of the system's own bucket.
    /// Returns `true` if the document must be repaired, because weak keys in it were omitted.
    pub(crate) fn replace_at(&self, revision: u64, document: &[u8]) -> Result<bool, KeyRingError> {
        let next = Keys::parse(document, self.0.key_ids)?;
        next.document.check_version(revision)?;
        self.take(&next)?;
        Ok(next.has_weak())
    }

    fn take(&self, next: &Keys) -> Result<(), KeyRingError> {
        let replaced = self.0.keys.rcu(|current| match next.document.version > current.document.version {
            true => Arc::new(next.after(current)),
            false => Arc::clone(current),
        });
        let (current, found) = (replaced.document.version, next.document.version);
        if found <= current {
            return Err(KeyRingError::Stale { current, found });
        }
        next.report();
        // Two documents that arrive at the same time may come here in either order.
        self.0.versions.send_modify(|version| *version = found.max(*version));
        Ok(())
    }

    /// Returns the version of the document in use.
    pub fn version(&self) -> u64 {
        self.0.keys.load().document.version
    }

    /// Returns the keys in use at `now` (seconds since 1970), in the form of RFC 7517.
    pub fn jwk_set(&self, now: u64) -> JwkSet {
        let keys = self.0.keys.load();
        let used = |kid: &str| keys.by_id.get(kid).is_some_and(|key| (key.not_before..key.not_after).contains(&now));
        JwkSet::of(keys.document.keys.iter().filter(|entry| used(&entry.kid)))
    }

    /// Returns `true` if a key for tokens of type `typ` is in use now, with `leeway` (seconds).
    pub(crate) fn has_key(&self, typ: &str, clock: &Clock, leeway: u64) -> bool {
        self.0.keys.load().by_id.values().any(|key| same_media_type(&key.typ, typ) && key.is_in_use(clock, leeway))
    }

    pub(crate) fn find(&self, kid: &str) -> Option<(Arc<VerifyingKey>, u64)> {
        let keys = self.0.keys.load();
        keys.by_id.get(kid).map(|key| (Arc::clone(key), keys.generation))
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.keys.load().generation
    }

    /// Returns the document in use.
    pub(crate) fn document(&self) -> Arc<Document> {
        Arc::clone(&self.0.keys.load().document)
    }

    /// Returns a receiver that is notified of each new version.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.0.versions.subscribe()
    }

    /// Waits for a version other than `seen`, within the limits of [`Unknown`]; returns `true` if there is one.
    pub(crate) async fn newer_than(&self, seen: u64) -> bool {
        if self.version() != seen {
            return true;
        }
        // A ring without a feed gets no newer version.
        let Some(feed) = self.0.feed.get() else { return false };
        let Some(waiting) = self.0.unknown.admit(Instant::now()) else { return false };
        if waiting.first {
            feed.ask();
        }
        let mut versions = self.versions();
        tokio::time::timeout_at(waiting.until, versions.wait_for(|version| *version != seen)).await.is_ok()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.0.keys.load();
        f.debug_struct("KeyRing").field("version", &keys.document.version).field("keys", &keys.by_id.keys()).finish()
    }
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod weak;

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    const ED25519: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    const P256: &str = concat!(
        r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","#,
        r#""y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#,
    );

    /// Returns the example key of RFC 7638, section 3.1.
    fn rsa() -> String {
        let n = concat!(
            "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3",
            "oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdA",
            "ZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-",
            "kEgU8awapJzKnqDKgw",
        );
        format!(r#"{{"kty":"RSA","e":"AQAB","n":"{n}"}}"#)
    }

    fn document(version: u64, keys: &str) -> Vec<u8> {
        format!(r#"{{"version":{version},"keys":[{keys}]}}"#).into_bytes()
    }

    fn key(kid: &str, alg: &str, jwk: &str) -> String {
        format!(r#"{{"kid":"{kid}","alg":"{alg}","typ":"at+jwt","iss":"i","jwk":{jwk}}}"#)
    }

    fn good(kid: &str) -> String {
        key(kid, "EdDSA", &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"}}"#))
    }

    #[test]
    fn jwt_signature_11_a_private_or_symmetric_key_refuses_the_update_and_the_old_ring_stays() {
        let ring = KeyRing::from_json(&document(1, &good("a"))).unwrap();
        let private = key("b", "EdDSA", &format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}","d":"{X}"}}"#));
        let symmetric = key("b", "HS256", &format!(r#"{{"kty":"oct","k":"{X}"}}"#));
        for bad in [private, symmetric] {
            let refused = ring.replace(&document(2, &format!("{},{bad}", good("a")))).unwrap_err();
            assert_eq!(refused, KeyRingError::PrivateKey { kid: "b".to_owned() });
            assert!(ring.find("a").is_some());
        }
        ring.replace(&document(2, &format!("{},{}", good("a"), good("b")))).unwrap();
        assert!(ring.find("b").is_some());
    }

    #[test]
    fn jwt_signature_11_a_duplicate_key_id_refuses_the_update() {
        let twice = document(1, &format!("{},{}", good("a"), good("a")));
        assert_eq!(KeyRing::from_json(&twice).unwrap_err(), KeyRingError::DuplicateKeyId { kid: "a".to_owned() });
        assert!(KeyRing::from_json(&document(1, &format!("{},{}", good("a"), good("b")))).is_ok());
    }

    #[test]
    fn a_key_of_our_own_that_is_not_called_by_its_thumbprint_refuses_the_update_and_the_old_ring_stays() {
        const NAME: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";
        let point = key("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s", "ES256", P256);
        let ring = KeyRing::empty();
        ring.replace(&document(1, &format!("{},{point}", good(NAME)))).unwrap();
        for (kid, alg, jwk) in [("b", "EdDSA", ED25519), (NAME, "ES256", P256), ("b", "RS256", &rsa())] {
            let keys = [good(NAME), key(kid, alg, jwk)];
            let bad = if kid == NAME { &keys[1..] } else { &keys[..] }.join(",");
            let refused = ring.replace(&document(2, &bad)).unwrap_err();
            assert!(matches!(&refused, KeyRingError::KeyId { kid: found, .. } if found == kid), "{alg}: {refused}");
            assert!(matches!(KeyRing::read_own(&document(2, &bad)), Err(KeyRingError::KeyId { .. })));
            assert!(ring.version() == 1 && ring.find(NAME).is_some());
            // Keys of other issuers may have any id.
            assert!(KeyRing::from_json(&document(2, &bad)).is_ok_and(|ring| ring.find(kid).is_some()));
        }
        ring.replace(&document(2, &good(NAME))).unwrap();
    }

    #[test]
    fn jwt_signature_10_11_a_weak_or_unknown_key_is_left_out_alone() {
        let short = key("b", "EdDSA", r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#);
        let unknown = key("c", "EdDSA", r#"{"kty":"LMS","x":"AAAA"}"#);
        let ring = KeyRing::from_json(&document(1, &format!("{short},{},{unknown}", good("a")))).unwrap();
        assert!(ring.find("a").is_some());
        assert!(ring.find("b").is_none());
        assert!(ring.find("c").is_none());
    }

    #[test]
    fn keys_05_an_older_document_does_not_come_back() {
        let ring = KeyRing::from_json(&document(2, &good("new"))).unwrap();
        let refused = ring.replace(&document(1, &good("old"))).unwrap_err();
        assert_eq!(refused, KeyRingError::Stale { current: 2, found: 1 });
        assert!(ring.find("old").is_none());
        let refused = ring.replace(&document(2, &good("other"))).unwrap_err();
        assert_eq!(refused, KeyRingError::Stale { current: 2, found: 2 });
        assert!(ring.find("other").is_none() && ring.find("new").is_some());
        ring.replace(&document(3, &good("newer"))).unwrap();
        assert!(ring.find("newer").is_some() && ring.find("new").is_none());
    }

    #[test]
    fn a_malformed_document_is_refused() {
        for bad in ["", "[]", "{}", r#"{"version":1}"#, r#"{"version":1.5,"keys":[]}"#] {
            assert!(matches!(KeyRing::from_json(bad.as_bytes()), Err(KeyRingError::Malformed(_))), "{bad}");
        }
        for kid in ["", "a/b", "a b"] {
            assert!(KeyRing::from_json(&document(1, &good(kid))).is_err(), "{kid}");
        }
        for empty in [good("a").replace("at+jwt", ""), good("a").replace(r#":"i","#, r#":"","#)] {
            let refused = KeyRing::from_json(&document(1, &empty));
            assert!(matches!(refused, Err(KeyRingError::Malformed(_))), "{empty}");
        }
    }

    fn until(kid: &str, not_before: u64, not_after: u64) -> String {
        good(kid).replacen('{', &format!(r#"{{"not_before":{not_before},"not_after":{not_after},"#), 1)
    }

    #[test]
    fn what_was_verified_stays_known_until_something_is_taken_away() {
        let ring = KeyRing::from_json(&document(1, &until("a", 10, 20))).unwrap();
        let mut generation = ring.generation();
        for (version, keys, taken) in [
            (2, until("a", 10, 30), false),
            (3, format!("{},{}", until("a", 10, 30), good("b")), false),
            (4, format!("{},{}", until("a", 10, 29), good("b")), true),
            (5, format!("{},{}", until("a", 11, 29), good("b")), true),
            (6, good("b"), true),
            (7, good("b").replace("at+jwt", "gw+jwt"), true),
            (8, good("b").replace("at+jwt", "gw+jwt"), false),
        ] {
            ring.replace(&document(version, &keys)).unwrap();
            assert_eq!(ring.generation() != generation, taken, "version {version}");
            generation = ring.generation();
        }
    }

    #[test]
    fn a_key_ends_after_it_begins() {
        assert!(KeyRing::from_json(&document(1, &until("a", 10, 11))).is_ok());
        for (not_before, not_after) in [(10, 10), (11, 10)] {
            let refused = KeyRing::from_json(&document(1, &until("a", not_before, not_after)));
            assert!(matches!(refused, Err(KeyRingError::Malformed(_))), "{not_before} {not_after}");
        }
    }

    #[test]
    fn the_set_of_rfc_7517_has_the_keys_in_use_and_nothing_of_ours() {
        let short = key("c", "EdDSA", r#"{"kty":"OKP","crv":"Ed25519","x":"AAAA"}"#);
        let keys = format!("{},{},{short}", until("a", 10, 20), until("b", 20, 30));
        let ring = KeyRing::from_json(&document(1, &keys)).unwrap();
        assert_eq!([10, 20, 30].map(|now| ring.jwk_set(now).len()), [1, 1, 0]);
        assert_eq!([10, 20, 30].map(|now| ring.jwk_set(now).is_empty()), [false, false, true]);
        let set = |now| serde_json::to_value(ring.jwk_set(now)).unwrap();
        let jwk = |kid| serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": X, "kid": kid, "alg": "EdDSA", "use": "sig" });
        assert_eq!(set(10), serde_json::json!({ "keys": [jwk("a")] }));
        assert_eq!(set(20), serde_json::json!({ "keys": [jwk("b")] }));
        assert_eq!(set(30), serde_json::json!({ "keys": [] }));
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_can_come() {
        let ring = KeyRing::from_json(&document(3, "")).unwrap();
        assert!(futures::executor::block_on(ring.newer_than(2)));
        assert!(!futures::executor::block_on(ring.newer_than(3)));
    }
}
