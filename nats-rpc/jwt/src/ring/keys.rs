//! The contents of a ring, and their construction from a document.

use std::collections::HashMap;
use std::sync::Arc;

use nats_rpc::from_json;

use super::KeyRingError;
use super::document::{Document, Entry};
use crate::jwk::{self, Unusable};
use crate::keys::{VerifyingKey, is_sound_key_id};

/// The keys of one document, ready to verify with.
#[derive(Default)]
pub(super) struct Keys {
    pub(super) document: Arc<Document>,
    pub(super) by_id: HashMap<Box<str>, Arc<VerifyingKey>>,
    /// Counts the documents that removed or restricted a key of the previous one.
    pub(super) generation: u64,
    /// The ids of omitted keys, each with the reason.
    left_out: Vec<(Box<str>, Unusable)>,
}

/// The permitted key ids.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyIds {
    /// Any id.
    Any,
    /// Only the key's RFC 7638 thumbprint, so that an id belongs to one key forever.
    Thumbprints,
}

impl Keys {
    pub(super) fn parse(document: &[u8], key_ids: KeyIds) -> Result<Self, KeyRingError> {
        let document: Document = from_json(document).map_err(|error| KeyRingError::Malformed(error.to_string()))?;
        let mut by_id = HashMap::with_capacity(document.keys.len());
        let mut left_out = Vec::new();
        for entry in &document.keys {
            let kid = entry.kid.as_str();
            if !is_sound_key_id(kid) || entry.typ.is_empty() || entry.iss.is_empty() {
                return Err(KeyRingError::Malformed("a key has no usable kid, typ or iss".to_owned()));
            }
            if entry.not_after() <= entry.not_before() {
                return Err(KeyRingError::Malformed(format!("key {kid:?} ends before it begins")));
            }
            if by_id.contains_key(kid) {
                return Err(KeyRingError::DuplicateKeyId { kid: kid.to_owned() });
            }
            let key = match jwk::verifying_key(entry) {
                Ok((_, thumbprint)) if key_ids == KeyIds::Thumbprints && thumbprint != kid => {
                    return Err(KeyRingError::KeyId { kid: kid.to_owned(), thumbprint });
                }
                Ok((key, _)) => Some(Arc::new(key)),
                Err(Unusable::Private) => return Err(KeyRingError::PrivateKey { kid: kid.to_owned() }),
                Err(reason) => {
                    left_out.push((Box::from(kid), reason));
                    None
                }
            };
            by_id.insert(Box::from(kid), key);
        }
        let by_id = by_id.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect();
        Ok(Self { document: Arc::new(document), by_id, generation: 0, left_out })
    }

    /// Logs the omitted keys, once a document is in use.
    pub(super) fn report(&self) {
        for (kid, reason) in &self.left_out {
            match reason.is_unknown_kind() {
                true => tracing::warn!(kid, %reason, "key left out of the key ring"),
                false => tracing::error!(kid, %reason, "ALARM: a weak or broken key was left out of the key ring"),
            }
        }
    }

    /// Returns `true` if a key was omitted that no honest instance publishes.
    pub(super) fn has_weak(&self) -> bool {
        self.left_out.iter().any(|(_, reason)| !reason.is_unknown_kind())
    }

    /// Returns these keys as the successors of `earlier`.
    ///
    /// An added key, or a longer period of use, changes no result, so the cache stays valid: auth instances extend
    /// their keys every minute.
    pub(super) fn after(&self, earlier: &Self) -> Self {
        let stays = |entry: &Entry| self.document.entry(&entry.kid).is_some_and(|later| entry.outlived_by(later));
        let loses = !earlier.document.keys.iter().all(stays);
        Self {
            document: Arc::clone(&self.document),
            by_id: self.by_id.clone(),
            generation: earlier.generation + u64::from(loses),
            left_out: self.left_out.clone(),
        }
    }
}
