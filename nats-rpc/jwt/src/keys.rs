//! The keys that verify signatures: one shared secret, or a ring of public keys.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey};

use super::clock::Clock;
use super::header::Header;
use super::refusal::JwtRejection;
use super::ring::KeyRing;
use super::secret::SecretKey;

/// A key with its permitted use: one algorithm, one token type, one issuer.
pub(crate) struct VerifyingKey {
    pub(crate) decoding: DecodingKey,
    pub(crate) algorithm: Algorithm,
    pub(crate) typ: Box<str>,
    /// `None`: the key is not bound to an issuer.
    pub(crate) issuer: Option<Box<str>>,
    /// The start of its use, in seconds since 1970.
    pub(crate) not_before: u64,
    /// The end of its use.
    pub(crate) not_after: u64,
}

impl VerifyingKey {
    /// Creates a key from a shared secret for tokens of type `typ`, of any issuer, without an end of use.
    pub(crate) fn of_secret(secret: &SecretKey, typ: &str) -> Self {
        Self {
            decoding: DecodingKey::from_secret(secret.as_bytes()),
            algorithm: Algorithm::HS256,
            typ: typ.into(),
            issuer: None,
            not_before: 0,
            not_after: u64::MAX,
        }
    }

    /// Returns `true` if the key may be used now, with `leeway` (seconds); a static secret always may.
    pub(crate) fn is_in_use(&self, clock: &Clock, leeway: u64) -> bool {
        if (self.not_before, self.not_after) == (0, u64::MAX) {
            return true;
        }
        let now = clock.unix_seconds();
        now.saturating_add(leeway) >= self.not_before && now < self.not_after.saturating_add(leeway)
    }

    /// Returns the name that the header's `alg` must equal, byte by byte.
    pub(crate) fn algorithm_name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::EdDSA => "EdDSA",
            Algorithm::ES256 => "ES256",
            Algorithm::RS256 => "RS256",
            // No key of another algorithm is created; a name that no header can equal rejects everything.
            _ => "",
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingKey")
            .field("algorithm", &self.algorithm)
            .field("typ", &self.typ)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The two modes, never mixed.
#[derive(Clone, Debug)]
pub(crate) enum Keys {
    /// One shared secret. A token with a key id is rejected, unless `ignore_key_id` is set.
    Static { key: Arc<VerifyingKey>, ignore_key_id: bool },
    /// Public keys by key id; a token must name one.
    Ring(KeyRing),
}

impl Keys {
    /// Returns the key that the header names, with the generation of the keys that contain it.
    pub(crate) fn find(&self, header: &Header<'_>) -> Result<(Arc<VerifyingKey>, u64), JwtRejection> {
        let kid = header.kid.as_deref();
        if kid.is_some_and(|kid| !is_sound_key_id(kid)) {
            return Err(JwtRejection::KeyId);
        }
        match self {
            Self::Static { key, ignore_key_id } if kid.is_none() || *ignore_key_id => Ok((Arc::clone(key), 0)),
            Self::Static { .. } => Err(JwtRejection::KeyId),
            Self::Ring(_) => self.find_id(kid.ok_or(JwtRejection::KeyId)?),
        }
    }

    /// Returns the key with the id `kid` from the ring.
    pub(crate) fn find_id(&self, kid: &str) -> Result<(Arc<VerifyingKey>, u64), JwtRejection> {
        self.ring().and_then(|ring| ring.find(kid)).ok_or(JwtRejection::UnknownKeyId)
    }

    /// Returns the generation, which changes whenever a key is removed or restricted, so that cached results of older
    /// keys are not used.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Self::Static { .. } => 0,
            Self::Ring(ring) => ring.generation(),
        }
    }

    /// Returns the ring, if keys can be added while the process runs.
    pub(crate) fn ring(&self) -> Option<&KeyRing> {
        match self {
            Self::Static { .. } => None,
            Self::Ring(ring) => Some(ring),
        }
    }
}

/// Returns `true` if `kid` is valid: 1 to 64 characters of base64url, such as an RFC 7638 thumbprint.
pub(crate) fn is_sound_key_id(kid: &str) -> bool {
    (1..=64).contains(&kid.len()) && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
