//! Verifies a token again if its key is newer than the known ring.

use super::refusal::JwtRejection;
use super::ring::KeyRing;

/// Verifies again for each newer ring that arrives in time, while the key is unknown.
pub(super) async fn fresh<T>(
    ring: Option<&KeyRing>,
    mut verify: impl FnMut() -> Result<T, JwtRejection>,
) -> Result<T, JwtRejection> {
    let Some(ring) = ring else { return verify() };
    loop {
        // Read first: a ring that arrives during the verification must not be missed.
        let version = ring.version();
        match verify() {
            Err(JwtRejection::UnknownKeyId | JwtRejection::NoKeys) if ring.newer_than(version).await => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::executor::block_on;
    use nats_rpc::Guard;
    use serde_json::json;
    use tokio::sync::Notify;

    use super::super::ring::testing::{Key, document};
    use super::super::testing::{NOW, claims, config, now, request};
    use super::super::{Feed, JwtConfig, JwtGuard, UserClaims, bound};
    use super::*;

    /// Creates a ring without keys, whose feed delivers `key` on the first request.
    fn soon(key: &Key) -> KeyRing {
        let asked = Arc::new(Notify::new());
        let ring = KeyRing::from_json(&document(1, &[])).unwrap();
        let (fed, newer) = (ring.clone().fed_by(Feed::new(Arc::clone(&asked), ())), document(2, &[key]));
        tokio::spawn(async move {
            asked.notified().await;
            ring.replace(&newer).unwrap();
        });
        fed
    }

    #[tokio::test]
    async fn a_token_whose_key_arrives_in_time_is_taken() {
        let key = Key::ed25519("new");
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(soon(&key)).clock(now)).unwrap();
        let token = key.sign(&claims());
        assert_eq!(guard.verify(&token).unwrap_err(), JwtRejection::NoKeys);
        assert_eq!(guard.verify_async(&token).await.unwrap().sub, "u1");
    }

    #[tokio::test]
    async fn so_is_one_whose_claims_are_read() {
        let key = Key::ed25519("new");
        let guard = JwtGuard::<UserClaims>::new(JwtConfig::ring(soon(&key)).clock(now)).unwrap();
        let token = key.sign(&claims());
        assert_eq!(guard.read_claims::<UserClaims>(&token).unwrap_err(), JwtRejection::NoKeys);
        assert_eq!(guard.claims_async::<UserClaims>(&token).await.unwrap().sub, "u1");
    }

    #[tokio::test]
    async fn so_is_a_gateways_assertion() {
        let key = Key { typ: "gw+jwt".to_owned(), iss: "gateway".to_owned(), ..Key::ed25519("new") };
        let guard = JwtGuard::<UserClaims>::new(config().forwarded_assertion_ring(soon(&key))).unwrap();
        let assertion = key.sign(&json!({
            "iss": "gateway", "aud": "nats-rpc", "sub": "u1", "iat": NOW, "exp": NOW + 10, "jti": "j1",
            "subj": "users.get", "bh": bound::digest(b"{}"),
        }));
        let mut request = request("users.get", &[("nrpc-assert", &assertion)], "{}");
        guard.can_activate(&mut request).await.unwrap();
        assert_eq!(request.principal().unwrap().subject(), "u1");
    }

    #[test]
    fn nothing_else_is_looked_at_twice() {
        let ring = KeyRing::from_json(&document(1, &[])).unwrap();
        // A ring without a feed gets no keys, and no new key makes an expired token valid.
        for (ring, refusal) in [
            (Some(&ring), JwtRejection::UnknownKeyId),
            (None, JwtRejection::UnknownKeyId),
            (Some(&ring), JwtRejection::Expired),
        ] {
            let mut looks = 0;
            let outcome = block_on(fresh::<()>(ring, || {
                looks += 1;
                assert_eq!(looks, 1);
                Err(refusal)
            }));
            assert_eq!(outcome, Err(refusal));
        }
    }
}
