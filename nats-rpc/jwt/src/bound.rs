//! A gateway's signed statement about a message: bound to its subject and payload, valid for ten seconds, and accepted
//! once by each instance.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_rpc::__private::unrelated_id;
use nats_rpc::{Request, RpcError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::Clock;
use super::config::DEFAULT_AUDIENCE;
use super::keys::Keys;
use super::refusal::JwtRejection;
use super::replay::ReplaySet;
use super::revocation::{Revocations, Stale};
use super::ring::KeyRing;
use super::signing::Signer;
use super::verifier::{Proven, Rules, Verifier};

/// The issuer of such statements.
pub(crate) const ISSUER: &str = "gateway";
/// Lifetime in seconds.
pub(crate) const LIFETIME: u64 = 10;
/// The maximum number of statements in flight: 13,000 a second for a whole window.
const MAX_IN_FLIGHT: usize = 262_144;

/// Signs statements of one type.
#[derive(Debug)]
pub(super) struct BoundSigner {
    signer: Signer,
    pub(super) audience: String,
    pub(super) clock: Clock,
}

#[derive(Serialize)]
struct Claims<'a, W> {
    iss: &'static str,
    aud: &'a str,
    #[serde(flatten)]
    word: &'a W,
    subj: &'a str,
    bh: String,
    iat: u64,
    exp: u64,
    jti: String,
}

impl BoundSigner {
    pub(super) fn new(signer: Signer) -> Self {
        Self { signer, audience: DEFAULT_AUDIENCE.to_owned(), clock: Clock::default() }
    }

    /// Signs the claims of `word`, together with claims that bind them to a message of `data` to `subject`.
    pub(super) fn sign(&self, word: &impl Serialize, subject: &str, data: &[u8]) -> Result<String, RpcError> {
        let iat = self.clock.unix_seconds();
        let exp = iat + LIFETIME;
        let claims = Claims {
            iss: ISSUER,
            aud: &self.audience,
            word,
            subj: subject,
            bh: digest(data),
            iat,
            exp,
            jti: unrelated_id(),
        };
        self.signer.sign(&claims, exp)
    }
}

/// Verifies statements of one type; holds the set of used ones.
pub(super) struct BoundVerifier {
    verifier: Arc<Verifier>,
    replays: ReplaySet,
    clock: Clock,
}

/// The conditions for accepting a statement.
pub(super) struct BoundRules {
    pub(super) typ: &'static str,
    pub(super) audience: Box<str>,
    /// Seconds of clock skew allowed.
    pub(super) leeway: u64,
    pub(super) revocations: Option<Revocations>,
}

#[derive(Deserialize)]
struct Binding {
    subj: String,
    bh: String,
}

impl BoundVerifier {
    pub(super) fn new(keys: Keys, rules: BoundRules, clock: Clock) -> Self {
        let BoundRules { typ, audience, leeway, revocations } = rules;
        let rules = Rules {
            typ,
            issuer: Some(ISSUER.into()),
            audience: Some(audience),
            leeway,
            max_lifetime: Some(LIFETIME),
            complete: true,
            revocations,
            epochs: false,
        };
        let verifier = Arc::new(Verifier::new(keys, rules, clock.clone()));
        // A statement is valid from `leeway` before its creation to `leeway` after its expiry.
        Self { verifier, replays: ReplaySet::new(Duration::from_secs(LIFETIME + 2 * leeway), MAX_IN_FLIGHT), clock }
    }

    pub(super) fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// Returns the ring of the gateways' keys, if they are in one.
    pub(super) fn ring(&self) -> Option<&KeyRing> {
        self.verifier.ring()
    }

    /// Checks that `token` was signed for this request, but not yet that it is new. Call [`use_up`](Self::use_up)
    /// last, so that only accepted statements are recorded.
    pub(super) fn prove(&self, token: &str, request: &Request, stale: Stale) -> Result<Proven, JwtRejection> {
        let proven = self.verifier.prove(token, stale).map_err(|refusal| match refusal {
            // The caller's own token may still be valid: a new token would not help.
            JwtRejection::Expired => JwtRejection::AssertionExpired,
            other => other,
        })?;
        let Binding { subj, bh } = proven.read().map_err(|_| JwtRejection::Claims)?;
        if subj != request.subject() {
            return Err(JwtRejection::AssertedSubject);
        }
        if bh != digest(request.data().unwrap_or_default()) {
            return Err(JwtRejection::AssertedPayload);
        }
        Ok(proven)
    }

    /// Records the statement as used; rejects one that was used before.
    pub(super) fn use_up(&self, proven: &Proven) -> Result<(), JwtRejection> {
        let id = proven.standing.marks.jti.as_deref().ok_or(JwtRejection::Id)?;
        self.replays.first_use(id, self.clock.steady())
    }
}

impl fmt::Debug for BoundVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundVerifier").finish_non_exhaustive()
    }
}

/// Returns the hash that binds a payload: base64url of its SHA-256.
pub(super) fn digest(data: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(data))
}
