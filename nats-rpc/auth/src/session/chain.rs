//! The chain of a session's secrets.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use nats_rpc_jwt::SecretKey;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::id::SessionId;
use super::token::{RefreshToken, Secret};

/// The secret key of auth instances: without it, the next secret of a session cannot be computed.
#[derive(Clone)]
pub(super) struct Pepper {
    keyed: Hmac<Sha256>,
    id: String,
}

impl Pepper {
    pub(super) fn new(secret: &SecretKey) -> Self {
        // HMAC's key is a full block, zero-padded after the secret's digest: its length is always valid.
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(&Sha256::digest(secret.as_bytes()));
        let keyed = Hmac::<Sha256>::new(&(*block).into());
        let mut name = keyed.clone();
        name.update(b"pepper id");
        let id = URL_SAFE_NO_PAD.encode(&name.finalize().into_bytes()[..8]);
        Self { keyed, id }
    }

    /// Returns the id of the pepper in records, so that it can be replaced while its sessions live on.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper([redacted])")
    }
}

/// The secrets of one session: each is the HMAC of its predecessor.
///
/// So an old token can be distinguished from a forged one, by rolling it forward to the current generation. And a lost
/// reply can be computed again from the token that the client presents.
pub(super) struct Chain<'a> {
    pepper: &'a Pepper,
    sid: SessionId,
}

impl<'a> Chain<'a> {
    pub(super) fn new(pepper: &'a Pepper, sid: SessionId) -> Self {
        Self { pepper, sid }
    }

    /// Returns the token after `token`.
    pub(super) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let generation = token.generation.saturating_add(1);
        RefreshToken { sid: self.sid, generation, secret: self.step(generation, &token.secret) }
    }

    /// Returns the secret `steps` generations after that of `token`.
    pub(super) fn roll_forward(&self, token: &RefreshToken, steps: u32) -> Secret {
        (0..steps).fold(token.secret.clone(), |secret, step| {
            self.step(token.generation.saturating_add(step).saturating_add(1), &secret)
        })
    }

    fn step(&self, generation: u32, secret: &Secret) -> Secret {
        let mut mac = self.pepper.keyed.clone();
        mac.update(&self.sid.0);
        mac.update(&generation.to_be_bytes());
        mac.update(secret.as_slice());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper(byte: u8) -> Pepper {
        Pepper::new(&SecretKey::new("JWT_REFRESH_SECRET", [byte; 40]).unwrap())
    }

    #[test]
    fn rolling_forward_ends_where_single_steps_do() {
        let (pepper, first) = (pepper(1), RefreshToken::random("u1").unwrap());
        let chain = Chain::new(&pepper, first.sid);
        let third = chain.successor(&chain.successor(&chain.successor(&first)));
        assert_eq!(third.generation, 3);
        assert_eq!(*chain.roll_forward(&first, 3), *third.secret);
        assert_eq!(*chain.roll_forward(&first, 0), *first.secret);
    }

    #[test]
    fn the_next_secret_depends_on_pepper_session_generation_and_secret() {
        let token = RefreshToken { sid: SessionId([1; 16]), generation: 7, secret: Zeroizing::new([2; 32]) };
        let next = |pepper: &Pepper, token: &RefreshToken| *Chain::new(pepper, token.sid).successor(token).secret;
        let base = next(&pepper(1), &token);
        assert_eq!(base, next(&pepper(1), &token));
        assert_ne!(base, next(&pepper(2), &token));
        assert_ne!(base, next(&pepper(1), &RefreshToken { sid: SessionId([2; 16]), ..token.clone() }));
        assert_ne!(base, next(&pepper(1), &RefreshToken { generation: 8, ..token.clone() }));
        assert_ne!(base, next(&pepper(1), &RefreshToken { secret: Zeroizing::new([3; 32]), ..token.clone() }));
    }

    #[test]
    fn peppers_have_ids_that_differ_and_tell_nothing() {
        assert_eq!(pepper(1).id(), pepper(1).id());
        assert_ne!(pepper(1).id(), pepper(2).id());
        assert_eq!(pepper(1).id().len(), 11);
        assert_eq!(format!("{:?}", pepper(1)), "Pepper([redacted])");
    }
}
