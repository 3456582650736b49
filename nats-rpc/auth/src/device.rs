//! Device tokens: recognize a device with which a user has logged in before.

use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use nats_rpc::RpcError;
use nats_rpc_jwt::__private::Clock;
use nats_rpc_jwt::SecretKey;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::session::Owner;

const PREFIX: &str = "nrd1.";
const ID_BYTES: usize = 12;
const USER_BYTES: usize = 8;
/// Id, digest of the user's id, time of issue, the user's epoch, the global epoch.
const BODY_BYTES: usize = ID_BYTES + USER_BYTES + 3 * 8;
const MAC_BYTES: usize = 32;
/// base64url of body and MAC without padding.
const CHARACTERS: usize = ((BODY_BYTES + MAC_BYTES) * 4).div_ceil(3);

/// Signs and verifies device tokens.
///
/// A device token (`nrd1.` and 102 characters) proves an earlier login of its bearer to one account. It does not prove
/// identity: the password is still required. Attempts with it are counted for the device and not for the account, so
/// that other parties' failures do not delay the owner.
///
/// Tokens are signed with a key that is derived from the pepper; nothing is stored. A token is valid for its lifetime,
/// for one account and one user, and only while [its epochs](Device::owner) are accepted. Ending all sessions of a
/// user also revokes the tokens of all their devices.
///
/// ```
/// use nats_rpc_jwt::SecretKey;
/// use nats_rpc_auth::{DeviceTokens, Owner};
///
/// let pepper = SecretKey::new("JWT_REFRESH_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let devices = DeviceTokens::new(&pepper);
/// let owner = Owner::new("0192f0c1", "account key");
/// let token = devices.issue(&owner, None)?;
/// let device = devices.verify(&token, "account key").unwrap();
/// assert!(device.is_of("0192f0c1"));
/// assert!(devices.verify(&token, "another account").is_none());
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct DeviceTokens {
    keyed: Hmac<Sha256>,
    lifetime: Duration,
    clock: Clock,
}

/// A device with a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    id: [u8; ID_BYTES],
    user: [u8; USER_BYTES],
    /// The user's epoch when the token was issued.
    pub epoch: u64,
    /// The global epoch when the token was issued.
    pub global_epoch: u64,
}

impl Device {
    /// Returns the id of the device, which is the same in all its tokens; not a secret.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.id)
    }

    /// Returns `true` if the token was issued to the user with this id.
    pub fn is_of(&self, user: &str) -> bool {
        self.user == digest(user)
    }

    /// Returns the owner of a session from the time of the token's issue: the token is valid as long as such a
    /// session.
    pub fn owner(&self, user: impl Into<String>, account: impl Into<String>) -> Owner {
        Owner::new(user, account).user_epoch(self.epoch).global_epoch(self.global_epoch)
    }
}

impl DeviceTokens {
    /// Creates an issuer of tokens that are valid for 90 days, with a key derived from `pepper`.
    pub fn new(pepper: &SecretKey) -> Self {
        // HMAC's key is a full block, zero-padded after the secret's digest: its length is always valid.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&Sha256::digest(pepper.as_bytes()));
        let mut keyed = Hmac::<Sha256>::new(&(*block).into());
        keyed.update(b"device token\0");
        Self { keyed, lifetime: Duration::from_hours(90 * 24), clock: Clock::default() }
    }

    /// Sets the lifetime of a token. Default: 90 days.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Issues a token for `owner`, for a new device or for the `known` one.
    ///
    /// # Errors
    /// 500 if the system returns no random numbers.
    pub fn issue(&self, owner: &Owner, known: Option<&Device>) -> Result<String, RpcError> {
        let mut id = [0; ID_BYTES];
        match known {
            Some(device) => id = device.id,
            None => getrandom::fill(&mut id).map_err(|error| RpcError::internal(error.to_string()))?,
        }
        let mut bytes = Vec::with_capacity(BODY_BYTES + MAC_BYTES);
        bytes.extend(id);
        bytes.extend(digest(&owner.user));
        for number in [self.clock.unix_seconds(), owner.user_epoch, owner.global_epoch] {
            bytes.extend(number.to_be_bytes());
        }
        let mac = self.mac(&owner.account, &bytes);
        bytes.extend(mac);
        Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
    }

    /// Returns the device of a token for the account with this key, or `None` for any other text or an expired token.
    ///
    /// The caller reads the account, and compares its user and its epochs.
    pub fn verify(&self, token: &str, account: &str) -> Option<Device> {
        let encoded = token.strip_prefix(PREFIX).filter(|encoded| encoded.len() == CHARACTERS)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let (body, mac) = bytes.split_at_checked(BODY_BYTES)?;
        if !bool::from(self.mac(account, body).ct_eq(mac)) {
            return None;
        }
        let (id, rest) = body.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (issued, rest) = rest.split_first_chunk()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let global_epoch = rest.first_chunk()?;
        let age = self.clock.unix_seconds().saturating_sub(u64::from_be_bytes(*issued));
        let (epoch, global_epoch) = (u64::from_be_bytes(*epoch), u64::from_be_bytes(*global_epoch));
        (age < self.lifetime.as_secs()).then_some(Device { id: *id, user: *user, epoch, global_epoch })
    }

    fn mac(&self, account: &str, body: &[u8]) -> [u8; MAC_BYTES] {
        let mut keyed = self.keyed.clone();
        // The body has a fixed length, so that the two parts cannot be split differently.
        keyed.update(body);
        keyed.update(account.as_bytes());
        keyed.finalize().into_bytes().into()
    }
}

fn digest(user: &str) -> [u8; USER_BYTES] {
    let mut start = [0; USER_BYTES];
    start.copy_from_slice(&Sha256::digest(user)[..USER_BYTES]);
    start
}

impl fmt::Debug for DeviceTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceTokens").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(byte: u8, seconds: u64) -> DeviceTokens {
        let pepper = SecretKey::new("JWT_REFRESH_SECRET", [byte; 32]).unwrap();
        DeviceTokens::new(&pepper).clock(move || UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn owner() -> Owner {
        Owner::new("u1", "k1").user_epoch(3).global_epoch(5)
    }

    #[test]
    fn a_token_is_of_one_device_account_and_user() {
        let devices = at(1, 1_000);
        let token = devices.issue(&owner(), None).unwrap();
        assert_eq!(token.len(), 107);
        let device = devices.verify(&token, "k1").unwrap();
        assert!(device.is_of("u1") && !device.is_of("u2"));
        assert_eq!(device.owner("u1", "k1"), owner());
        assert_eq!(devices.verify(&token, "k2"), None);
        assert_eq!(at(2, 1_000).verify(&token, "k1"), None, "another pepper");
        let again = devices.verify(&devices.issue(&owner(), Some(&device)).unwrap(), "k1").unwrap();
        assert_eq!(again.id(), device.id());
        let other = devices.verify(&devices.issue(&owner(), None).unwrap(), "k1").unwrap();
        assert_ne!(other.id(), device.id());
    }

    #[test]
    fn a_token_ends_with_its_lifetime() {
        let token = at(1, 1_000).issue(&owner(), None).unwrap();
        let end = 1_000 + 90 * 86_400;
        assert!(at(1, end - 1).verify(&token, "k1").is_some());
        assert!(at(1, end).verify(&token, "k1").is_none());
        assert!(at(1, 0).verify(&token, "k1").is_some(), "a clock that is behind");
    }

    #[test]
    fn any_change_of_a_token_makes_it_none() {
        let devices = at(1, 1_000);
        let token = devices.issue(&owner(), None).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert!(devices.verify(&format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(forged)), "k1").is_none(), "{at}");
        }
        for wrong in ["", PREFIX, &token[1..], &token[..106], &format!("{token}A"), &token.replace("nrd1", "nrt1")] {
            assert!(devices.verify(wrong, "k1").is_none(), "{wrong}");
        }
        assert!(!format!("{devices:?}").contains("keyed"));
    }
}
