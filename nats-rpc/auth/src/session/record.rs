//! A session in its stored form.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Owner;
use super::chain::Pepper;
use super::config::Limits;
use super::token::{RefreshToken, digest};

/// One value of the bucket. It reveals nothing that could be used as a token: only the digest of a secret of 256 bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(flatten, with = "OwnerFields")]
    pub(super) owner: Owner,
    /// The current generation.
    #[serde(rename = "gen")]
    pub(super) generation: u32,
    /// SHA-256 of the current secret.
    #[serde(rename = "hash", serialize_with = "encode", deserialize_with = "decode")]
    pub(super) digest: [u8; 32],
    /// The creation time, in milliseconds since 1970, as all times here.
    pub(super) begun_at: u64,
    /// The start of the current generation.
    pub(super) rotated_at: u64,
    /// The absolute expiry, which refreshing does not change.
    pub(super) absolute_expiry: u64,
    /// The idle expiry, which each refresh sets anew.
    pub(super) idle_expiry: u64,
    /// The id of the pepper of its chain.
    pub(super) pepper: String,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Owner")]
struct OwnerFields {
    user: String,
    account: String,
    #[serde(default, rename = "epoch")]
    user_epoch: u64,
    #[serde(default, rename = "realm")]
    global_epoch: u64,
}

impl Record {
    pub(super) fn begin(token: &RefreshToken, pepper: &Pepper, owner: Owner, now: u64, limits: &Limits) -> Self {
        let absolute_expiry = now.saturating_add(limits.absolute);
        Self {
            owner,
            generation: token.generation,
            digest: digest(&token.secret),
            begun_at: now,
            rotated_at: now,
            absolute_expiry,
            idle_expiry: now.saturating_add(limits.idle).min(absolute_expiry),
            pepper: pepper.id().to_owned(),
        }
    }

    /// Returns the record after a rotation to `successor`: a new idle expiry, the same absolute one.
    pub(super) fn rotate(&self, successor: &RefreshToken, now: u64, limits: &Limits) -> Self {
        Self {
            generation: successor.generation,
            digest: digest(&successor.secret),
            rotated_at: now,
            idle_expiry: now.saturating_add(limits.idle).min(self.absolute_expiry),
            ..self.clone()
        }
    }

    /// Returns the time at which the session expires unless it is refreshed.
    pub(super) fn expiry(&self) -> u64 {
        self.idle_expiry.min(self.absolute_expiry)
    }
}

fn encode<S: Serializer>(digest: &[u8; 32], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&URL_SAFE_NO_PAD.encode(digest))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    let encoded = String::deserialize(deserializer)?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| serde::de::Error::custom("not the base64url of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use nats_rpc_jwt::SecretKey;

    use super::*;

    const LIMITS: Limits = Limits { grace: 10, idle: 700, absolute: 1_000, cap: 50 };

    fn begun() -> (RefreshToken, Record) {
        let pepper = Pepper::new(&SecretKey::new("P", [1; 32]).unwrap());
        let token = RefreshToken::random("u1").unwrap();
        let record = Record::begin(&token, &pepper, Owner::new("u1", "k1"), 5_000, &LIMITS);
        (token, record)
    }

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let (_, record) = begun();
        let json = serde_json::to_vec(&record).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn record_keeps_its_stored_field_names() {
        let (_, mut record) = begun();
        record.owner = Owner::new("u1", "k1").user_epoch(3).global_epoch(5);
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(
            (&json["epoch"], &json["realm"], &json["begun_at"]),
            (&3.into(), &5.into(), &5_000.into()),
            "{json}"
        );
    }

    #[test]
    fn refresh_10_nothing_in_a_record_can_be_presented() {
        let (token, record) = begun();
        let json = serde_json::to_string(&record).unwrap();
        let secret = URL_SAFE_NO_PAD.encode(token.secret.as_slice());
        assert!(!json.contains(&secret) && !json.contains(&token.to_string()[5..]), "{json}");
        // A token with the digest instead of the secret is a forged token.
        let stolen = RefreshToken { secret: record.digest.into(), ..token };
        assert_ne!(digest(&stolen.secret), record.digest);
    }

    #[test]
    fn refresh_08_rotation_extends_the_idle_expiry_up_to_the_absolute_one() {
        let (token, record) = begun();
        assert_eq!((record.idle_expiry, record.absolute_expiry), (5_700, 6_000));
        let rotated = record.rotate(&token, 5_100, &LIMITS);
        assert_eq!((rotated.idle_expiry, rotated.absolute_expiry), (5_800, 6_000));
        let late = rotated.rotate(&token, 5_790, &LIMITS);
        assert_eq!((late.expiry(), late.absolute_expiry), (6_000, 6_000));
    }
}
