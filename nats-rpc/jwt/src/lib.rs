//! JWT authentication: [`JwtGuard`] verifies access tokens and exposes their claims.
//!
//! [`JwtGuard`] takes the caller's access token from the `authorization` header, checks it against a closed list of
//! rules, and passes typed claims to the handler through [`Auth`](nats_rpc::Auth).
//!
//! ```
//! use nats_rpc::prelude::*;
//! use nats_rpc_jwt::prelude::*;
//!
//! #[message_pattern("whoami")]
//! #[use_guards(JwtGuard)]
//! async fn whoami(me: Auth<UserClaims>) -> String {
//!     me.subject().to_owned()
//! }
//!
//! let service = Service::new("users", "1.0.0").handlers(handlers![whoami]).guard(JwtGuard::from_env);
//! ```
//!
//! - **Guards**: [`JwtGuard`] with [`JwtConfig`], [`UserClaims`], [`FailOpenJwtGuard`]; [`VerifierConfig`] builds a
//!   configuration in steps.
//! - **Keys**: [`KeyRing::watch`] watches the public keys that verify tokens. [`SigningKeys`] are the key pairs of one
//!   instance. [`JwksBucket`] is the KV bucket of their public halves.
//! - **Revocations**: [`Revoker`] revokes tokens, sessions, one user's tokens or all users' tokens; guards reject them
//!   by means of [`Revocations`].
//! - **Both without consumers**: [`TrustBeacon`] lets every service watch revocations and keys; [`ChangeSigner`] signs
//!   the changes.
//! - **Gateways**: [`AssertionSigner`] asserts the caller's identity, [`ClientIpSigner`] the caller's IP address.
//! - **Permissions**: [`TrustBuckets`] lists the nats-server permissions that a program needs to verify tokens.
//! - **Tests**: [`testing`] (feature `testing`) makes tokens.

mod accepted;
mod assertion;
mod bound;
mod cache;
mod change_signer;
mod claims;
mod clock;
mod config;
mod detached;
mod dev;
mod doubled;
mod environment;
mod follow;
mod fresh;
mod header;
mod jwk;
mod jwks;
mod keys;
mod own_key;
mod peer;
mod refusal;
mod replay;
mod revocation;
mod ring;
mod secret;
mod signing;
mod source;
mod stale;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod thumbprint;
mod top_level;
mod trust_buckets;
mod verifier;
mod watch;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use nats_rpc::{Guard, Principal, Readiness, Request, RpcError};
use serde::de::DeserializeOwned;

pub use self::assertion::AssertionSigner;
pub(crate) use self::assertion::TYPE as ASSERTION_TYPE;
pub(crate) use self::bound::{ISSUER as ASSERTION_ISSUER, LIFETIME as ASSERTION_LIFETIME};
pub use self::change_signer::ChangeSigner;
pub use self::claims::UserClaims;
pub(crate) use self::clock::Clock;
pub(crate) use self::config::ACCESS_TOKEN_TYPE;
pub use self::config::{DEFAULT_AUDIENCE, DEFAULT_ISSUER, JwtConfig, JwtConfigError};
pub(crate) use self::detached::{DetachedSigner, DetachedVerifier, SignatureError};
pub use self::dev::InsecureDev;
pub use self::environment::VerifierConfig;
pub use self::jwks::{JwksBucket, KeyEvent, KeyPurpose, KeysError, PublishedKey, SigningKeyConfig, SigningKeys};
pub(crate) use self::own_key::OwnKey;
pub(crate) use self::peer::TYPE as PEER_TYPE;
pub use self::peer::{CLIENT_IP_HEADER, ClientIp, ClientIpSigner, ClientIpVerifier};
pub use self::refusal::JwtRejection;
pub(crate) use self::revocation::{DenyList, Target, Terms};
pub(crate) use self::revocation::{MAX_REVOCABLE_LIFETIME, subject_digest};
pub use self::revocation::{RevocationBucketError, RevocationError, Revocations, Revoker};
pub(crate) use self::ring::document::{Document, Entry};
pub(crate) use self::ring::{Feed, WeakKeyRing};
pub use self::ring::{JwkSet, KeyRing, KeyRingError};
pub use self::secret::SecretKey;
pub(crate) use self::signing::{ActiveKey, Publishing, Signer};
pub use self::stale::FailOpenJwtGuard;
pub use self::trust_buckets::TrustBuckets;
pub use self::watch::TrustBeacon;

/// Items that nats-rpc-auth uses; not part of the public interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::clock::Clock;
    pub use crate::config::ACCESS_TOKEN_TYPE;
    pub use crate::doubled::doubled;
    pub use crate::signing::Signer;
}

/// The imports that a file of guarded handlers needs in addition to [`nats_rpc::prelude`].
pub mod prelude {
    pub use crate::{JwtGuard, UserClaims};
}

use self::accepted::{Accepted, Caller};
use self::assertion::AssertionVerifier;
use self::cache::TokenCache;
use self::config::{AssertedWith, NEST_TYPE, SignedWith};
use self::fresh::fresh;
use self::keys::{Keys, VerifyingKey};
use self::revocation::Stale;
use self::source::{Proof, Sources, USER};
use self::top_level::Field;
use self::verifier::{MAX_TOKEN_BYTES, Rules, Verifier};

/// Accepts a request if its access token proves the caller's identity.
///
/// The token comes from the header `authorization: Bearer <token>`; [`JwtConfig`] enables other sources. The guard
/// rejects a request with more than one proof. It removes a top-level `user` field from the payload before the handler
/// sees it. A rejection is a 401 that does not give the reason, except for an expired token (details
/// `{"reason":"token_expired"}`). The log contains the reason.
///
/// The guard verifies a token once (2 to 55 µs by algorithm) and then caches it until it expires (0.1 µs), for up to
/// 10,000 tokens. Clones share the cache.
///
/// ```
/// use nats_rpc_jwt::{JwtConfig, JwtGuard, JwtRejection, SecretKey, UserClaims};
///
/// let secret = SecretKey::new("JWT_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret))?;
/// assert_eq!(guard.verify("e30.e30.AAAA").unwrap_err(), JwtRejection::Header);
/// # Ok::<_, nats_rpc_jwt::JwtConfigError>(())
/// ```
pub struct JwtGuard<C = UserClaims>(Arc<Inner<C>>);

struct Inner<C> {
    verifier: Arc<Verifier>,
    cache: TokenCache<Accepted<C>>,
    sources: Sources,
    assertions: Option<AssertionVerifier>,
    insecure_dev: Option<InsecureDev>,
    keep_user_field: bool,
    stale: Stale,
    clock: Clock,
}

impl<C: Principal + DeserializeOwned> JwtGuard<C> {
    /// Creates a guard that passes claims of type `C` to handlers.
    ///
    /// # Errors
    /// [`JwtConfigError`] if an issuer, audience or payload field is empty, the leeway is above 60 s, the longest
    /// lifetime is below 1 s, or two secrets are equal.
    pub fn new(config: JwtConfig) -> Result<Self, JwtConfigError> {
        config.check()?;
        let leeway = config.leeway.as_secs();
        let audience = config.audience.map(String::into_boxed_str);
        let (keys, typ, complete) = match &config.signed_with {
            SignedWith::Secret(secret) => (shared_secret(secret, ACCESS_TOKEN_TYPE, false), ACCESS_TOKEN_TYPE, true),
            SignedWith::NestSecret(secret) => (shared_secret(secret, NEST_TYPE, true), NEST_TYPE, false),
            SignedWith::Ring(ring) => (Keys::Ring(ring.clone()), ACCESS_TOKEN_TYPE, true),
        };
        let assertions = config.assertion.as_ref().map(|asserted| {
            let keys = match asserted {
                AssertedWith::Secret(secret) => shared_secret(secret, assertion::TYPE, false),
                AssertedWith::Ring(ring) => Keys::Ring(ring.clone()),
            };
            let audience = audience.clone().unwrap_or_else(|| DEFAULT_AUDIENCE.into());
            let token_lifetime = config.max_lifetime.map(|lifetime| lifetime.as_secs());
            let (revocations, clock) = (config.revocations.clone(), config.clock.clone());
            AssertionVerifier::new(keys, audience, leeway, token_lifetime, revocations, clock)
        });
        let rules = Rules {
            typ,
            issuer: config.issuer.map(String::into_boxed_str),
            audience,
            leeway,
            max_lifetime: config.max_lifetime.map(|lifetime| lifetime.as_secs()),
            complete,
            revocations: config.revocations,
            epochs: true,
        };
        Ok(Self(Arc::new(Inner {
            verifier: Arc::new(Verifier::new(keys, rules, config.clock.clone())),
            cache: TokenCache::new(cache::DEFAULT_CAPACITY),
            sources: Sources {
                payload_field: config.payload_field.as_deref().map(Field::new),
                assertion: assertions.is_some(),
                forwarded_user: config.insecure_dev.is_some(),
            },
            assertions,
            insecure_dev: config.insecure_dev,
            keep_user_field: config.keep_user_field,
            stale: if config.accept_stale { Stale::Accept } else { Stale::Refuse },
            clock: config.clock,
        })))
    }

    /// Creates a guard for tokens as stock `@nestjs/jwt` issues them. See [`JwtConfig::nest_compatible`] for the
    /// checks that it omits.
    ///
    /// # Errors
    /// None today; the configuration is checked as in [`new`](Self::new).
    pub fn nest_compatible(secret: SecretKey) -> Result<Self, JwtConfigError> {
        Self::new(JwtConfig::nest_compatible(secret))
    }

    /// Returns the claims of `token` if it is valid now. For callers that are not handlers, such as a gateway.
    ///
    /// # Errors
    /// The first rule that the token breaks. [`RpcError::from`] converts it to a 401 that does not reveal the reason.
    pub fn verify(&self, token: &str) -> Result<Arc<C>, JwtRejection> {
        self.accept(token, self.0.stale).map(|accepted| Arc::clone(&accepted.claims))
    }

    /// Returns claims of `token` of another type than `C` if it is valid now. For token introspection.
    ///
    /// Each call verifies the token again.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub fn read_claims<T: DeserializeOwned>(&self, token: &str) -> Result<T, JwtRejection> {
        self.0.verifier.prove(token, self.0.stale)?.read()
    }

    /// Returns claims like [`read_claims`](Self::read_claims), but waits for a key as
    /// [`verify_async`](Self::verify_async) does.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub async fn claims_async<T: DeserializeOwned>(&self, token: &str) -> Result<T, JwtRejection> {
        fresh(self.0.verifier.ring(), || self.read_claims(token)).await
    }

    /// Returns the revocations that the guard checks, or `None` if it checks none.
    pub fn revocations(&self) -> Option<&Revocations> {
        self.0.verifier.revocations()
    }

    fn accept(&self, token: &str, stale: Stale) -> Result<Arc<Accepted<C>>, JwtRejection> {
        let Inner { verifier, cache, .. } = &*self.0;
        // Before the cache, which would hash the whole token.
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtRejection::TooLarge);
        }
        if let Some(known) = cache.get(token) {
            if verifier.is_current(&known.standing) {
                verifier.check_standing(&known.standing, stale)?;
                return Ok(known);
            }
            cache.remove(token);
        }
        let proven = verifier.prove(token, stale)?;
        let (claims, verifier) = (Arc::new(proven.read()?), Arc::clone(verifier));
        let accepted = Arc::new(Accepted { claims, standing: proven.standing, verifier, stale: self.0.stale });
        cache.insert(token, Arc::clone(&accepted));
        Ok(accepted)
    }

    /// Verifies like [`verify`](Self::verify), but tries a token with an unknown key id again if a newer
    /// [ring](KeyRing) arrives within 250 ms.
    ///
    /// Such a wait begins at most once in 10 s, and at most 64 callers share it; other calls return at once. With a
    /// static secret there is no wait.
    ///
    /// # Errors
    /// Those of [`verify`](Self::verify).
    pub async fn verify_async(&self, token: &str) -> Result<Arc<C>, JwtRejection> {
        fresh(self.0.verifier.ring(), || self.verify(token)).await
    }

    async fn authenticate(&self, request: &Request, stale: Stale) -> Result<Caller<C>, JwtRejection> {
        match self.0.sources.find(request)? {
            Proof::Token(token) => {
                let accepted = fresh(self.0.verifier.ring(), || self.accept(&token, stale)).await?;
                Ok(Caller::of(accepted, stale))
            }
            Proof::Assertion(assertion) => {
                let verifier = self.0.assertions.as_ref().ok_or(JwtRejection::NoToken)?;
                let accepted = fresh(verifier.ring(), || verifier.accept(assertion, request, stale)).await?;
                Ok(Caller::of(Arc::new(accepted), stale))
            }
            Proof::ForwardedUser(user) => Ok(Caller { claims: self.believe(user.get())?, validity: None }),
        }
    }

    fn believe(&self, user: &str) -> Result<Arc<C>, JwtRejection> {
        let dev = self.0.insecure_dev.as_ref().ok_or(JwtRejection::NoToken)?;
        dev.raise_alarm(self.0.clock.unix_seconds());
        if !header::is_object(user.as_bytes()) {
            return Err(JwtRejection::ForwardedUser);
        }
        let claims: C = serde_json::from_str(user).map_err(|_| JwtRejection::ForwardedUser)?;
        if !claims::is_sound_subject(claims.subject()) {
            return Err(JwtRejection::Subject);
        }
        Ok(Arc::new(claims))
    }
}

fn shared_secret(secret: &SecretKey, typ: &str, ignore_key_id: bool) -> Keys {
    let key = VerifyingKey::of_secret(secret, typ);
    Keys::Static { key: Arc::new(key), ignore_key_id }
}

impl<C: Principal + DeserializeOwned> JwtGuard<C> {
    /// Accepts a request as [`can_activate`](Guard::can_activate) does.
    async fn admit(&self, request: &mut Request, stale: Stale) -> Result<(), RpcError> {
        let Caller { claims, validity } = self.authenticate(request, stale).await?;
        if !self.0.keep_user_field {
            let stripped = top_level::without(request.data().unwrap_or_default(), &USER)
                .map_err(|malformed| RpcError::invalid_argument(malformed.to_string()))?;
            if let Some(data) = stripped {
                request.set_data(data);
            }
        }
        request.set_principal(claims);
        if let Some(validity) = validity {
            request.add_validity(validity);
        }
        Ok(())
    }
}

impl<C: Principal + DeserializeOwned> Guard for JwtGuard<C> {
    async fn can_activate(&self, request: &mut Request) -> Result<(), RpcError> {
        self.admit(request, self.0.stale).await
    }

    fn proves(&self) -> Option<TypeId> {
        Some(TypeId::of::<C>())
    }

    fn readiness(&self) -> Option<Readiness> {
        let verifier = Arc::clone(&self.0.verifier);
        verifier.ring()?;
        Some(Readiness::new(move || match verifier.has_key() {
            true => Ok(()),
            false => Err("the key ring holds no key to verify access tokens with; start the auth service".to_owned()),
        }))
    }
}

impl<C> Clone for JwtGuard<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C> fmt::Debug for JwtGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtGuard")
            .field("verifier", &self.0.verifier)
            .field("sources", &self.0.sources)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
