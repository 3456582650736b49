//! A gateway's signed statement of the client's IP address, bound to one message and valid for ten seconds.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use nats_rpc::{BindContext, Extract, Request, RpcError};
use serde::Serialize;

use super::bound::{BoundRules, BoundSigner, BoundVerifier};
use super::clock::Clock;
use super::fresh::fresh;
use super::keys::Keys;
use super::refusal::JwtRejection;
use super::revocation::Stale;
use super::ring::KeyRing;
use super::secret::SecretKey;
use super::shared_secret;
use super::signing::Signer;
use super::source::sole_value;

/// The header that carries the proof.
pub const CLIENT_IP_HEADER: &str = "nrpc-peer";
/// The token type of a proof. A proof is not accepted as an access token or an assertion, nor is either accepted as a
/// proof.
pub(crate) const TYPE: &str = "peer+jwt";
/// Seconds of clock skew allowed, as for tokens.
const LEEWAY: u64 = 5;

/// Signs the client's IP address on behalf of a gateway.
///
/// The proof travels in the header [`CLIENT_IP_HEADER`]. It is valid for one subject, one payload and ten seconds.
/// Each instance accepts it once while the instance runs. It proves the origin of a call, but not the caller's
/// identity. A service that counts attempts per source takes it as [`ClientIp`]. A gateway with its own keys in a ring
/// creates the signer from them, with `SigningKeys::client_ip_signer`.
///
/// ```
/// use nats_rpc_jwt::{ClientIpSigner, SecretKey};
///
/// let secret = SecretKey::new("JWT_ASSERTION_SECRET", "0123456789abcdef0123456789abcdef")?;
/// let proof = ClientIpSigner::hs256(&secret).sign("203.0.113.7".parse()?, "auth.login", b"{}")?;
/// // client.header(CLIENT_IP_HEADER, proof).send("auth.login", …)
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct ClientIpSigner(BoundSigner);

/// The claim that holds the client's address.
#[derive(Serialize)]
struct Whereabouts {
    sub: String,
}

impl ClientIpSigner {
    /// Signs with HS256 and `secret`, for the audience `nats-rpc`.
    pub fn hs256(secret: &SecretKey) -> Self {
        Self::signed_by(Signer::hs256(secret, TYPE))
    }

    pub(crate) fn signed_by(signer: Signer) -> Self {
        Self(BoundSigner::new(signer))
    }

    /// Sets the audience; services reject a proof for another.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.0.audience = audience.into();
        self
    }

    /// Reads the time from `now` instead of the system clock; for tests.
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.0.clock = Clock::new(now);
        self
    }

    /// Returns the value of [`CLIENT_IP_HEADER`] for a message of `data` to `subject`, called from `address`. `data`
    /// is the payload's bytes as they are sent, without an envelope.
    ///
    /// # Errors
    /// A 500 if the claims cannot be signed, a 503 while no published key can sign them.
    pub fn sign(&self, address: IpAddr, subject: &str, data: &[u8]) -> Result<String, RpcError> {
        self.0.sign(&Whereabouts { sub: network(address).to_string() }, subject, data)
    }
}

/// Returns the network of one customer of a provider: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Verifies proofs of client IP addresses. Provide it to a service whose handlers take a [`ClientIp`].
///
/// Clones share the set of used proofs.
#[derive(Clone)]
#[must_use]
pub struct ClientIpVerifier(Option<Arc<BoundVerifier>>);

impl ClientIpVerifier {
    /// Accepts proofs signed with `secret` for `audience`.
    pub fn hs256(secret: &SecretKey, audience: impl Into<Box<str>>) -> Self {
        Self::of(shared_secret(secret, TYPE, false), audience.into(), Clock::default())
    }

    /// Accepts proofs for `audience` that are signed with a proof key of `ring`.
    ///
    /// The ring should hold the keys of gateways and no others.
    pub fn ring(ring: KeyRing, audience: impl Into<Box<str>>) -> Self {
        Self::of(Keys::Ring(ring), audience.into(), Clock::default())
    }

    /// Accepts no proof: every [`ClientIp`] is unknown.
    pub fn none() -> Self {
        Self(None)
    }

    fn of(keys: Keys, audience: Box<str>, clock: Clock) -> Self {
        // An address cannot be revoked.
        let rules = BoundRules { typ: TYPE, audience, leeway: LEEWAY, revocations: None };
        Self(Some(Arc::new(BoundVerifier::new(keys, rules, clock))))
    }

    /// Returns the address that the request proves, or `None` if it has no proof or proofs are not accepted.
    async fn verify(&self, request: &Request) -> Result<Option<String>, JwtRejection> {
        let Some(verifier) = &self.0 else { return Ok(None) };
        let Some(proof) = sole_value(request, CLIENT_IP_HEADER)? else { return Ok(None) };
        let proven = fresh(verifier.ring(), || verifier.prove(proof, request, Stale::Refuse)).await?;
        verifier.use_up(&proven)?;
        Ok(Some(proven.standing.sub))
    }
}

impl fmt::Debug for ClientIpVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientIpVerifier").field(&self.0.is_some()).finish()
    }
}

/// The caller's address as proved by a gateway, or `None` without a proof.
///
/// A handler's argument. The address is an IPv4 address, or the first 64 bits of an IPv6 address. An invalid proof
/// counts as none and is logged as a warning: the call is not rejected for it and gains nothing by it. The argument
/// requires a provided [`ClientIpVerifier`].
///
/// ```
/// use nats_rpc_jwt::{ClientIp, ClientIpVerifier};
/// use nats_rpc::prelude::*;
///
/// #[message_pattern("whereami")]
/// async fn where_am_i(ClientIp(address): ClientIp) -> Option<String> {
///     address
/// }
///
/// let service = Service::new("mirror", "1.0.0").handlers(handlers![where_am_i]).provide(ClientIpVerifier::none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIp(pub Option<String>);

impl Extract for ClientIp {
    type Bound = ClientIpVerifier;

    fn bind(cx: &BindContext<'_>) -> Result<ClientIpVerifier, String> {
        let verifier = cx.provided::<ClientIpVerifier>();
        verifier.map(|verifier| ClientIpVerifier::clone(&verifier)).ok_or_else(|| {
            "no `ClientIpVerifier` was provided: add `.provide(ClientIpVerifier::…)` to the service".to_owned()
        })
    }

    async fn extract(bound: &ClientIpVerifier, request: &mut Request) -> Result<Self, RpcError> {
        Ok(Self(bound.verify(request).await.unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, subject = request.subject(), "a proof of the caller's address does not hold");
            None
        })))
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use serde_json::json;

    use super::super::testing::{NOW, at, request};
    use super::super::{
        ActiveKey, AssertionSigner, DEFAULT_AUDIENCE, JwtConfig, JwtGuard, OwnKey, Publishing, UserClaims,
    };
    use super::*;

    const SUBJECT: &str = "auth.login";
    const DATA: &str = r#"{"email":"ada@example.com","password":"correct horse"}"#;

    fn secret() -> SecretKey {
        SecretKey::new("JWT_ASSERTION_SECRET", b"assertion-secret-0123456789-abcd").unwrap()
    }

    fn signer() -> ClientIpSigner {
        ClientIpSigner::hs256(&secret()).clock(|| at(NOW))
    }

    fn verifier() -> ClientIpVerifier {
        ClientIpVerifier::of(shared_secret(&secret(), TYPE, false), DEFAULT_AUDIENCE.into(), Clock::new(|| at(NOW)))
    }

    fn sign(address: &str) -> String {
        signer().sign(address.parse().unwrap(), SUBJECT, DATA.as_bytes()).unwrap()
    }

    fn verify(
        verifier: &ClientIpVerifier,
        proof: &str,
        subject: &str,
        data: &str,
    ) -> Result<Option<String>, JwtRejection> {
        block_on(verifier.verify(&request(subject, &[(CLIENT_IP_HEADER, proof)], data)))
    }

    #[test]
    fn the_address_is_the_one_that_the_gateway_signed() {
        for (address, network) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(verify(&verifier(), &sign(address), SUBJECT, DATA), Ok(Some(network.to_owned())));
        }
        assert_eq!(block_on(verifier().verify(&request(SUBJECT, &[], DATA))), Ok(None));
        assert_eq!(verify(&ClientIpVerifier::none(), &sign("203.0.113.7"), SUBJECT, DATA), Ok(None));
    }

    #[test]
    fn a_proof_is_for_one_subject_one_payload_and_one_use() {
        let verifier = verifier();
        let other = DATA.replace("ada", "eve");
        assert_eq!(verify(&verifier, &sign("::1"), "auth.signup", DATA), Err(JwtRejection::AssertedSubject));
        assert_eq!(verify(&verifier, &sign("::1"), SUBJECT, &other), Err(JwtRejection::AssertedPayload));
        let proof = sign("192.0.2.1");
        assert!(verify(&verifier, &proof, SUBJECT, DATA).is_ok());
        assert_eq!(verify(&verifier, &proof, SUBJECT, DATA), Err(JwtRejection::Replayed));
    }

    #[test]
    fn a_proof_by_another_key_for_another_audience_or_of_another_time_is_none() {
        let refusal = |signer: ClientIpSigner| {
            let proof = signer.sign("192.0.2.1".parse().unwrap(), SUBJECT, DATA.as_bytes()).unwrap();
            verify(&verifier(), &proof, SUBJECT, DATA).unwrap_err()
        };
        let forger = ClientIpSigner::hs256(&super::super::testing::secret()).clock(|| at(NOW));
        assert_eq!(refusal(forger), JwtRejection::Signature);
        assert_eq!(refusal(signer().audience("other")), JwtRejection::Audience);
        assert_eq!(refusal(signer().clock(|| at(NOW - 15))), JwtRejection::AssertionExpired);
        let twice = [(CLIENT_IP_HEADER, "a.b.c"), ("NRPC-Peer", "a.b.c")];
        assert_eq!(block_on(verifier().verify(&request(SUBJECT, &twice, DATA))), Err(JwtRejection::SeveralValues));
    }

    #[test]
    fn a_proof_of_an_address_is_nobodys_identity_and_the_reverse() {
        let assertion = AssertionSigner::hs256(&secret()).clock(|| at(NOW));
        let assertion = assertion.sign(&UserClaims::new("192.0.2.1"), SUBJECT, DATA.as_bytes()).unwrap();
        assert_eq!(verify(&verifier(), &assertion, SUBJECT, DATA), Err(JwtRejection::Type));
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::hs256(secret()).clock(|| at(NOW))).unwrap();
        assert_eq!(guard.verify(&sign("192.0.2.1")).unwrap_err(), JwtRejection::Type);
    }
    #[test]
    fn in_a_ring_a_key_for_proofs_proves_addresses_and_one_for_assertions_does_not() {
        for (typ, proves) in [(TYPE, Ok(Some("192.0.2.1".to_owned()))), ("gw+jwt", Err(JwtRejection::Type))] {
            let (key, active) = (Arc::new(OwnKey::generate(typ).unwrap()), ActiveKey::default());
            let entry = json!({ "kid": key.kid(), "alg": "EdDSA", "typ": typ, "iss": "gateway", "jwk": key.jwk() });
            let ring = KeyRing::from_json(json!({ "version": 1, "keys": [entry] }).to_string().as_bytes()).unwrap();
            active.set(key, u64::MAX);
            let signer = ClientIpSigner::signed_by(Signer::Ring { active, _publisher: Publishing(Arc::new(())) });
            let proof = signer.clock(|| at(NOW)).sign("192.0.2.1".parse().unwrap(), SUBJECT, DATA.as_bytes()).unwrap();
            let verifier = ClientIpVerifier::of(Keys::Ring(ring), DEFAULT_AUDIENCE.into(), Clock::new(|| at(NOW)));
            assert_eq!(verify(&verifier, &proof, SUBJECT, DATA), proves, "{typ}");
            // This verifier does not accept proofs signed with the shared secret.
            assert_eq!(verify(&verifier, &sign("192.0.2.1"), SUBJECT, DATA), Err(JwtRejection::KeyId));
        }
    }
}
