//! A revocation with the signature of the auth instance that wrote it.
//!
//! For revocations that arrive as messages. A revocation read from the bucket needs no signature: only auth may write
//! there.

use serde::{Deserialize, Serialize};

use super::bucket::BUCKET;
use crate::DetachedSigner;
use crate::Terms;

/// The value of a key in the bucket. Readers without support for signatures ignore them.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signed {
    #[serde(flatten)]
    pub(super) terms: Terms,
    /// The id of the key; empty for a static secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    /// In base64url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sig: Option<String>,
}

impl Signed {
    /// Creates the value of `key` from `terms`, signed unless no key is published.
    pub(super) fn new(key: &str, terms: Terms, signer: Option<&DetachedSigner>, now: u64) -> Self {
        let signed = signer.and_then(|signer| signer.sign(&bytes(key, terms), now));
        let (kid, sig) = signed.unzip();
        Self { terms, kid, sig }
    }
}

/// Returns the signed text: a line with its kind, then the bucket, the key and both terms, one per line.
pub(super) fn bytes(key: &str, terms: Terms) -> Vec<u8> {
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    format!("nats-rpc revocation 1\n{BUCKET}\n{key}\n{}\n{}\n", number(terms.epoch), number(terms.until)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_covers_key_and_terms_and_old_readers_ignore_it() {
        let terms = Terms { epoch: Some(4), until: Some(9) };
        let all = [
            bytes("sid.a", terms),
            bytes("sid.b", terms),
            bytes("sid.a", Terms { epoch: None, ..terms }),
            bytes("sid.a", Terms { until: None, ..terms }),
            bytes("sid.a", Terms { epoch: Some(9), until: Some(4) }),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other != one), "{n}");
        }
        let signed = Signed { terms, kid: Some("k".to_owned()), sig: Some("s".to_owned()) };
        let value = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<Terms>(&value).unwrap(), terms, "{value}");
        let unsigned: Signed = serde_json::from_str(r#"{"epoch":4,"until":9}"#).unwrap();
        assert_eq!((unsigned.terms, unsigned.kid, unsigned.sig), (terms, None, None));
    }
}
