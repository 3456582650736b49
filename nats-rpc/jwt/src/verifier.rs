//! The checks of a token, in their order.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto;
use serde::de::DeserializeOwned;

use super::claims::{StandardClaims, is_sound_id, is_sound_subject};
use super::clock::Clock;
use super::header::{Header, is_object, same_media_type};
use super::keys::{Keys, VerifyingKey};
use super::refusal::JwtRejection;
use super::revocation::{Epochs, Marks, Revocations, Stale, subject_digest};
use super::ring::KeyRing;
use super::signing::choose_back_end;

/// The maximum size of a token, in bytes.
pub(crate) const MAX_TOKEN_BYTES: usize = 4096;

/// The maximum `exp`, the end of the year 9999, so that sums of times cannot overflow.
const MAX_TIME: u64 = 253_402_300_799;

/// The claims that a token must have in addition to `sub` and `exp`.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// The only accepted token type, whatever other types the keys are for.
    pub(crate) typ: &'static str,
    /// `None`: `iss` is not checked, except against the key's own issuer.
    pub(crate) issuer: Option<Box<str>>,
    /// `None`: `aud` is not checked.
    pub(crate) audience: Option<Box<str>>,
    /// Seconds of clock skew allowed.
    pub(crate) leeway: u64,
    /// Maximum seconds between `iat` and `exp`; `None`: not bounded.
    pub(crate) max_lifetime: Option<u64>,
    /// `true` if `iat` and `jti` are required.
    pub(crate) complete: bool,
    /// `None`: revocations are not checked.
    pub(crate) revocations: Option<Revocations>,
    /// `true` if these tokens have epochs; a token without them has epoch 0.
    pub(crate) epochs: bool,
}

/// Verifies tokens. Pure: no I/O, no state except the keys.
///
/// The order of [`verify`](Self::verify) is fixed and cheapest first. The verifier decodes nothing before it has
/// checked size and charset, and reads no claim before it has checked the signature. It does not use jsonwebtoken's
/// own `decode`, whose defaults accept a missing issuer, a numeric audience, any `typ`, and any `crit`.
#[derive(Debug)]
pub(crate) struct Verifier {
    keys: Keys,
    rules: Rules,
    clock: Clock,
}

/// A token that has passed all checks. The application's own claims are not read yet.
pub(crate) struct Proven {
    payload: Vec<u8>,
    pub(crate) standing: Standing,
}

impl Proven {
    /// Returns the standing of a caller that a gateway asserts, for work that continues after the assertion has
    /// expired.
    ///
    /// The caller's own token expires at most `lifetime` seconds later. The assertion names no epochs, so every later
    /// revocation that concerns the caller applies.
    pub(crate) fn vouched(self, lifetime: Option<u64>, revocations: Option<&Revocations>) -> Standing {
        let mut standing = self.standing;
        standing.exp = lifetime.map_or(MAX_TIME, |lifetime| standing.exp.saturating_add(lifetime).min(MAX_TIME));
        standing.kid = None;
        standing.marks.epochs = revocations.map(|revocations| revocations.epochs(subject_digest(&standing.sub)));
        standing
    }

    /// Reads `T` from the claims. Each type is read separately, so that each detects duplicate claims.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, JwtRejection> {
        serde_json::from_slice(&self.payload).map_err(|_| JwtRejection::CustomClaims)
    }
}

/// The conditions on which a verified token remains valid.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) exp: u64,
    /// The generation of the keys that the signature was verified with.
    pub(crate) generation: u64,
    /// The key's id, if it is of a ring.
    kid: Option<Box<str>>,
    /// The end of the key's use, as known at the time of verification.
    pub(crate) key_until: u64,
    pub(crate) sub: String,
    /// The claims by which the token can be revoked.
    pub(crate) marks: Marks,
}

/// A token with a valid signature. None of its claims is read yet.
struct Signed {
    key: Arc<VerifyingKey>,
    /// The key's id, if it is of a ring.
    kid: Option<Box<str>>,
    /// The generation of the keys that contain the key.
    generation: u64,
    payload: Vec<u8>,
}

impl Verifier {
    pub(crate) fn new(keys: Keys, rules: Rules, clock: Clock) -> Self {
        choose_back_end();
        Self { keys, rules, clock }
    }

    /// Verifies the signature of `token` and its standard claims.
    pub(crate) fn prove(&self, token: &str, stale: Stale) -> Result<Proven, JwtRejection> {
        let proven = self.check_claims(self.authenticate(token)?)?;
        self.check_standing(&proven.standing, stale)?;
        Ok(proven)
    }

    /// Checks that a token that was verified before is still valid. Cache hits are checked here too. Conditions that
    /// can change after verification are checked here and nowhere else.
    pub(crate) fn check_standing(&self, standing: &Standing, stale: Stale) -> Result<(), JwtRejection> {
        if self.clock.unix_seconds() >= standing.exp + self.rules.leeway {
            return Err(JwtRejection::Expired);
        }
        match &self.rules.revocations {
            Some(revocations) => revocations.check(&standing.marks, stale),
            None => Ok(()),
        }
    }

    /// Checks that a token that was accepted earlier is still valid, for work that continues beyond one request.
    ///
    /// It costs a look-up in the ring, if the key came from one, and no signature check.
    pub(crate) fn recheck(&self, standing: &Standing, stale: Stale) -> Result<(), JwtRejection> {
        if let (Some(kid), false) = (&standing.kid, self.is_current(standing)) {
            self.find_in_use(|keys| keys.find_id(kid))?;
        }
        self.check_standing(standing, stale)
    }

    /// Returns `true` if a key that can verify tokens is in use now.
    pub(crate) fn has_key(&self) -> bool {
        self.ring().is_none_or(|ring| ring.has_key(self.rules.typ, &self.clock, self.rules.leeway))
    }

    pub(crate) fn revocations(&self) -> Option<&Revocations> {
        self.rules.revocations.as_ref()
    }

    /// Returns `true` if the key that verified `standing` is known to be still in use.
    pub(crate) fn is_current(&self, standing: &Standing) -> bool {
        // A static secret does not expire.
        let ended = || self.clock.unix_seconds() >= standing.key_until.saturating_add(self.rules.leeway);
        standing.generation == self.keys.generation() && (standing.key_until == u64::MAX || !ended())
    }

    /// Returns the key ring, if keys can be added while the process runs.
    pub(crate) fn ring(&self) -> Option<&KeyRing> {
        self.keys.ring()
    }

    /// Returns the key that `find` selects, if it may be used now.
    fn find_in_use(
        &self,
        find: impl FnOnce(&Keys) -> Result<(Arc<VerifyingKey>, u64), JwtRejection>,
    ) -> Result<(Arc<VerifyingKey>, u64), JwtRejection> {
        let refusal = match find(&self.keys) {
            Ok((key, generation)) if key.is_in_use(&self.clock, self.rules.leeway) => return Ok((key, generation)),
            Ok(_) => JwtRejection::KeyNotInUse,
            Err(refusal @ JwtRejection::UnknownKeyId) => refusal,
            Err(refusal) => return Err(refusal),
        };
        // Without any key, a valid token cannot be distinguished from an invalid one.
        Err(if self.has_key() { refusal } else { JwtRejection::NoKeys })
    }

    /// Checks everything from the size to the signature, which proves the issuer.
    fn authenticate(&self, token: &str) -> Result<Signed, JwtRejection> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtRejection::TooLarge);
        }
        if !is_token_text(token) {
            return Err(JwtRejection::Charset);
        }
        let parts = Parts::of(token)?;
        let header = URL_SAFE_NO_PAD.decode(parts.header).map_err(|_| JwtRejection::Header)?;
        let header = Header::parse(&header)?;
        let (key, generation) = self.find_in_use(|keys| keys.find(&header))?;
        if header.alg != key.algorithm_name() {
            return Err(JwtRejection::Algorithm);
        }
        if !same_media_type(&header.typ, &key.typ) || !same_media_type(&header.typ, self.rules.typ) {
            return Err(JwtRejection::Type);
        }
        match crypto::verify(parts.signature, parts.signed.as_bytes(), &key.decoding, key.algorithm) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(JwtRejection::Signature),
        }
        let payload = URL_SAFE_NO_PAD.decode(parts.payload).map_err(|_| JwtRejection::Claims)?;
        let kid = self.ring().and(header.kid.as_deref()).map(Box::from);
        Ok(Signed { key, kid, generation, payload })
    }

    /// Checks the claims: first their types, then audience, times and revocation.
    fn check_claims(&self, signed: Signed) -> Result<Proven, JwtRejection> {
        let Signed { key, kid, generation, payload } = signed;
        if !is_object(&payload) {
            return Err(JwtRejection::Claims);
        }
        let claims: StandardClaims<'_> = serde_json::from_slice(&payload).map_err(|_| JwtRejection::Claims)?;
        let wanted = [self.rules.issuer.as_deref(), key.issuer.as_deref()];
        if wanted.into_iter().flatten().any(|issuer| claims.iss.as_deref() != Some(issuer)) {
            return Err(JwtRejection::Issuer);
        }
        if let Some(audience) = self.rules.audience.as_deref()
            && !claims.aud.as_ref().is_some_and(|found| found.contains(audience))
        {
            return Err(JwtRejection::Audience);
        }
        self.check_times(&claims)?;
        if !is_sound_subject(&claims.sub) {
            return Err(JwtRejection::Subject);
        }
        let jti_is_sound = claims.jti.as_deref().map_or(!self.rules.complete, is_sound_id);
        if !jti_is_sound || !claims.sid.as_deref().is_none_or(is_sound_id) {
            return Err(JwtRejection::Id);
        }
        let StandardClaims { exp, sub, jti, sid, epoch: user, global_epoch, .. } = claims;
        let epochs = self.rules.epochs.then(|| Epochs { subject: subject_digest(&sub), user, global_epoch });
        let key_until = key.not_after;
        let standing = Standing { exp, generation, kid, key_until, sub, marks: Marks { jti, sid, epochs } };
        Ok(Proven { payload, standing })
    }

    fn check_times(&self, claims: &StandardClaims<'_>) -> Result<(), JwtRejection> {
        let now = self.clock.unix_seconds();
        let latest = now.saturating_add(self.rules.leeway);
        if claims.exp > MAX_TIME {
            return Err(JwtRejection::Lifetime);
        }
        if now >= claims.exp + self.rules.leeway {
            return Err(JwtRejection::Expired);
        }
        if claims.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(JwtRejection::NotYetValid);
        }
        let Some(iat) = claims.iat else {
            // Without `iat`, the token's lifetime and the time to keep its revocation are unknown.
            let needed = self.rules.complete || self.rules.revocations.is_some();
            return if needed { Err(JwtRejection::IssuedAt) } else { Ok(()) };
        };
        if iat > latest {
            return Err(JwtRejection::IssuedAt);
        }
        let lifetime = claims.exp.checked_sub(iat).filter(|lifetime| *lifetime > 0);
        match (lifetime, self.rules.max_lifetime) {
            (None, _) => Err(JwtRejection::Lifetime),
            (Some(lifetime), Some(max)) if lifetime > max => Err(JwtRejection::Lifetime),
            _ => Ok(()),
        }
    }
}

/// Returns `true` if `text` consists of base64url characters and dots only.
///
/// It reads all bytes without a branch, so that the compiler can compare sixteen bytes at a time.
fn is_token_text(text: &str) -> bool {
    text.bytes().fold(true, |sound, byte| sound & (byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'_' | b'.')))
}

struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// The signing input: header, dot, payload.
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Result<Self, JwtRejection> {
        let (signed, signature) = token.rsplit_once('.').ok_or(JwtRejection::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(JwtRejection::Parts)?;
        if payload.contains('.') || [header, payload, signature].iter().any(|part| part.is_empty()) {
            return Err(JwtRejection::Parts);
        }
        Ok(Self { header, payload, signature, signed })
    }
}

#[cfg(test)]
mod tests;
