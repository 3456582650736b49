//! A gateway's signed assertion of the caller's identity, bound to one message and valid for ten seconds.

use std::sync::Arc;
use std::time::SystemTime;

use nats_rpc::{Request, RpcError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::accepted::Accepted;
use super::bound::{BoundRules, BoundSigner, BoundVerifier};
use super::claims::UserClaims;
use super::clock::Clock;
use super::header::is_object;
use super::keys::Keys;
use super::refusal::JwtRejection;
use super::revocation::{Revocations, Stale};
use super::ring::KeyRing;
use super::secret::SecretKey;
use super::signing::Signer;
use super::source::forwarded_user;
use super::verifier::Proven;

/// The token type of an assertion; access tokens have another type.
pub(crate) const TYPE: &str = "gw+jwt";

/// Signs assertions of the caller's identity, so that services behind a gateway do not need the caller's token.
///
/// The assertion travels in the header `nrpc-assert`. It is valid for one subject, one payload, and ten seconds. Each
/// instance of a service accepts it once while the instance runs. The set of used assertions is in the memory of the
/// instance, so another instance accepts the same message once more. A service accepts it if it enables
/// [`JwtConfig::forwarded_assertion`](super::JwtConfig::forwarded_assertion) with the same secret, or
/// [`forwarded_assertion_ring`](super::JwtConfig::forwarded_assertion_ring) with the ring of its keys.
///
/// ```
/// use nats_rpc_jwt::{AssertionSigner, SecretKey, UserClaims};
///
/// let secret = SecretKey::new("JWT_ASSERTION_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let signer = AssertionSigner::hs256(&secret);
/// let assertion = signer.sign(&UserClaims::new("0192f0c1"), "get_user_profile", b"{}")?;
/// // client.header("nrpc-assert", assertion).send("get_user_profile", …)
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct AssertionSigner(BoundSigner);

impl AssertionSigner {
    /// Signs with HS256 and `secret`, for the audience `nats-rpc`.
    pub fn hs256(secret: &SecretKey) -> Self {
        Self::signed_by(Signer::hs256(secret, TYPE))
    }

    pub(crate) fn signed_by(signer: Signer) -> Self {
        Self(BoundSigner::new(signer))
    }

    /// Sets the audience; services reject an assertion for another.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.0.audience = audience.into();
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.0.clock = Clock::new(now);
        self
    }

    /// Returns the value of `nrpc-assert` for a message of `data` to `subject`. `data` is the payload's bytes as they
    /// are sent, without an envelope.
    ///
    /// # Errors
    /// A 500 if the claims cannot be signed, a 503 while no published key can sign them.
    pub fn sign(&self, caller: &UserClaims, subject: &str, data: &[u8]) -> Result<String, RpcError> {
        self.0.sign(caller, subject, data)
    }
}

/// Verifies assertions; holds the set of used ones.
#[derive(Debug)]
pub(crate) struct AssertionVerifier {
    bound: BoundVerifier,
    /// The maximum lifetime of the tokens that gateways accept, in seconds, if known.
    token_lifetime: Option<u64>,
}

#[derive(Deserialize)]
struct ForwardedUser {
    sub: String,
}

impl AssertionVerifier {
    /// Accepts assertions signed with `keys` for `audience`, with `leeway` seconds of skew, unless `revocations` lists
    /// the user.
    pub(crate) fn new(
        keys: Keys,
        audience: Box<str>,
        leeway: u64,
        token_lifetime: Option<u64>,
        revocations: Option<Revocations>,
        clock: Clock,
    ) -> Self {
        let bound = BoundVerifier::new(keys, BoundRules { typ: TYPE, audience, leeway, revocations }, clock);
        Self { bound, token_lifetime }
    }

    /// Returns the ring of the gateway's keys, if they are in one.
    pub(crate) fn ring(&self) -> Option<&KeyRing> {
        self.bound.ring()
    }

    /// Accepts the assertion for this request, and its caller for the maximum lifetime of a token.
    pub(crate) fn accept<C: DeserializeOwned>(
        &self,
        assertion: &str,
        request: &Request,
        stale: Stale,
    ) -> Result<Accepted<C>, JwtRejection> {
        let proven = self.verify(assertion, request, stale)?;
        let verifier = Arc::clone(self.bound.verifier());
        let claims = Arc::new(proven.read()?);
        Ok(Accepted { claims, standing: proven.vouched(self.token_lifetime, verifier.revocations()), verifier, stale })
    }

    fn verify(&self, assertion: &str, request: &Request, stale: Stale) -> Result<Proven, JwtRejection> {
        let proven = self.bound.prove(assertion, request, stale)?;
        if let Some(user) = forwarded_user(request)? {
            if !is_object(user.get().as_bytes()) {
                return Err(JwtRejection::ForwardedUser);
            }
            let user: ForwardedUser = serde_json::from_str(user.get()).map_err(|_| JwtRejection::ForwardedUser)?;
            if user.sub != proven.standing.sub {
                return Err(JwtRejection::ForwardedUser);
            }
        }
        self.bound.use_up(&proven)?;
        Ok(proven)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use nats_rpc::Guard;

    use super::super::clock::Hand;
    use super::super::testing::{NOW, at, config, request};
    use super::super::{JwtConfig, JwtGuard, SecretKey};
    use super::*;

    const SUBJECT: &str = "get_user_profile";
    const DATA: &str = r#"{"userId":"u1"}"#;

    fn secret() -> SecretKey {
        SecretKey::new("JWT_ASSERTION_SECRET", b"assertion-secret-0123456789-abcd").unwrap()
    }

    fn signer() -> AssertionSigner {
        AssertionSigner::hs256(&secret()).clock(|| at(NOW))
    }

    #[test]
    fn it_is_used_up_for_one_instance_alone() {
        let assertion = signer().sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        for instance in [guard(), guard()] {
            assert_eq!(refusal(&instance, &assertion, SUBJECT, DATA), None);
            assert_eq!(refusal(&instance, &assertion, SUBJECT, DATA), Some(JwtRejection::Replayed));
        }
    }

    fn guard() -> JwtGuard {
        JwtGuard::new(config().forwarded_assertion(secret())).unwrap()
    }

    fn caller() -> UserClaims {
        UserClaims::new("u1").with_sid("s1").with_roles(["user"]).with_scope("profile:read")
    }

    fn refusal(guard: &JwtGuard, assertion: &str, subject: &str, data: &str) -> Option<JwtRejection> {
        let mut request = request(subject, &[("nrpc-assert", assertion)], data);
        let error = futures::executor::block_on(guard.can_activate(&mut request)).err()?;
        let source = std::error::Error::source(&error).unwrap().downcast_ref::<JwtRejection>().copied();
        assert!(request.principal().is_none());
        source
    }

    #[test]
    fn the_principal_is_the_one_that_the_gateway_vouches_for() {
        let assertion = signer().sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        let mut request = request(SUBJECT, &[("Nrpc-Assert", &assertion)], DATA);
        futures::executor::block_on(guard().can_activate(&mut request)).unwrap();
        let principal = request.principal().unwrap();
        assert_eq!(
            (principal.subject(), principal.roles(), principal.scope()),
            ("u1", &["user".to_owned()][..], "profile:read")
        );
    }

    #[test]
    fn source_10_an_assertion_is_for_one_subject_one_payload_and_one_use() {
        let guard = guard();
        let sign = || signer().sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        assert_eq!(refusal(&guard, &sign(), "users.delete", DATA), Some(JwtRejection::AssertedSubject));
        assert_eq!(refusal(&guard, &sign(), SUBJECT, r#"{"userId":"u2"}"#), Some(JwtRejection::AssertedPayload));
        assert_eq!(refusal(&guard, &sign(), SUBJECT, ""), Some(JwtRejection::AssertedPayload));
        let once = sign();
        assert_eq!(refusal(&guard, &once, SUBJECT, DATA), None);
        assert_eq!(refusal(&guard, &once, SUBJECT, DATA), Some(JwtRejection::Replayed));
        assert_eq!(refusal(&guard, &sign(), SUBJECT, DATA), None);
    }

    #[test]
    fn source_10_a_missing_expired_foreign_or_forged_assertion_is_refused() {
        let guard = guard();
        let sign = |signer: AssertionSigner| signer.sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        assert_eq!(refusal(&guard, &sign(signer().audience("other")), SUBJECT, DATA), Some(JwtRejection::Audience));
        for (made, refused) in [
            (NOW - 14, None),
            (NOW - 15, Some(JwtRejection::AssertionExpired)),
            (NOW + 5, None),
            (NOW + 6, Some(JwtRejection::IssuedAt)),
        ] {
            assert_eq!(refusal(&guard, &sign(signer().clock(move || at(made))), SUBJECT, DATA), refused, "{made}");
        }
        let forger = AssertionSigner::hs256(&super::super::testing::secret()).clock(|| at(NOW));
        assert_eq!(refusal(&guard, &sign(forger), SUBJECT, DATA), Some(JwtRejection::Signature));
        let mut without = request(SUBJECT, &[], r#"{"user":{"sub":"u1"}}"#);
        assert!(futures::executor::block_on(guard.can_activate(&mut without)).is_err());
    }

    #[test]
    fn jwt_header_13_an_assertion_is_no_access_token_and_an_access_token_no_assertion() {
        let guard = JwtGuard::<UserClaims>::new(config()).unwrap();
        let same_secret = AssertionSigner::hs256(&super::super::testing::secret()).clock(|| at(NOW));
        let assertion = same_secret.sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        assert_eq!(guard.verify(&assertion).unwrap_err(), JwtRejection::Type);

        let access = super::super::testing::token(&super::super::testing::claims());
        assert!(guard.verify(&access).is_ok());
        let guard = self::guard();
        assert_eq!(refusal(&guard, &access, SUBJECT, DATA), Some(JwtRejection::Type));
    }

    #[test]
    fn a_forwarded_user_must_be_the_one_of_the_assertion() {
        let guard = guard();
        for (data, refused) in [
            (r#"{"user":{"sub":"u1","roles":["admin"]}}"#, None),
            (r#"{"user":{"sub":"u2"}}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":{"sub":"u1"},"us\u0065r":{"sub":"u1"}}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":{}}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":true}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":"u1"}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":null}"#, Some(JwtRejection::ForwardedUser)),
            (r#"{"user":["u1"]}"#, Some(JwtRejection::ForwardedUser)),
        ] {
            let assertion = signer().sign(&caller(), SUBJECT, data.as_bytes()).unwrap();
            assert_eq!(refusal(&guard, &assertion, SUBJECT, data), refused, "{data}");
        }
    }

    #[test]
    fn no_assertion_is_taken_twice_in_its_whole_life() {
        let clock = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&clock);
        let guard: JwtGuard =
            JwtGuard::new(config().forwarded_assertion(secret()).clock(move || at(shared.load(Ordering::SeqCst))))
                .unwrap();
        for first_use in NOW - 5..NOW + 15 {
            let assertion = signer().sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
            clock.store(first_use, Ordering::SeqCst);
            assert_eq!(refusal(&guard, &assertion, SUBJECT, DATA), None, "{first_use}");
            for later in first_use..NOW + 20 {
                clock.store(later, Ordering::SeqCst);
                assert!(refusal(&guard, &assertion, SUBJECT, DATA).is_some(), "{first_use} {later}");
            }
        }
    }

    /// Used ids are kept for a duration, not until a wall-clock time.
    #[test]
    fn a_step_of_the_wall_clock_replays_no_assertion() {
        let hand = Hand::at(NOW);
        let config = JwtConfig { clock: hand.clock(), ..config().forwarded_assertion(secret()) };
        let guard = JwtGuard::new(config).unwrap();
        let sign = |made| signer().clock(move || at(made)).sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        let once = sign(NOW);
        assert_eq!(refusal(&guard, &once, SUBJECT, DATA), None);
        for ahead in [NOW + 100, NOW + 200, NOW + 300] {
            hand.step_to(ahead);
            assert_eq!(refusal(&guard, &sign(ahead), SUBJECT, DATA), None, "{ahead}");
        }
        hand.step_to(NOW);
        assert_eq!(refusal(&guard, &once, SUBJECT, DATA), Some(JwtRejection::Replayed));
        assert_eq!(refusal(&guard, &sign(NOW), SUBJECT, DATA), None);
    }

    #[test]
    fn a_stream_by_assertion_ends_after_the_longest_token() {
        let hand = Hand::at(NOW);
        let config = JwtConfig { clock: hand.clock(), ..config().forwarded_assertion(secret()) };
        let guard: JwtGuard = JwtGuard::new(config).unwrap();
        let assertion = signer().sign(&caller(), SUBJECT, DATA.as_bytes()).unwrap();
        let mut request = request(SUBJECT, &[("nrpc-assert", &assertion)], DATA);
        futures::executor::block_on(guard.can_activate(&mut request)).unwrap();
        let validity = request.take_validity().unwrap();
        // Ten seconds of the assertion, an hour of a token, and five seconds of skew.
        for (after, holds) in [(0, true), (3_614, true), (3_615, false)] {
            hand.step_to(NOW + after);
            assert_eq!(validity.check().is_ok(), holds, "{after}");
        }
        assert_eq!(validity.check().unwrap_err().code(), nats_rpc::Code::Unauthenticated);
    }
}
