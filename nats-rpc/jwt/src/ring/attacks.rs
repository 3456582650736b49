//! The attacks on tokens of a key ring, each named by its id and beside a good one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::super::testing::{HEADER, claims, claims_with, now, sign, token};
use super::super::{JwtConfig, JwtGuard, JwtRejection, UserClaims};
use super::KeyRing;
use super::testing::{Key, document};

fn guard(keys: &[&Key]) -> JwtGuard<UserClaims> {
    let ring = KeyRing::from_json(&document(1, keys)).unwrap();
    JwtGuard::new(JwtConfig::ring(ring).clock(now)).unwrap()
}

fn resign(token: &str, change: impl FnOnce(&mut Vec<u8>)) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    change(&mut signature);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn tokens_of_all_three_algorithms_are_taken() {
    let keys = [Key::ed25519("ed"), Key::p256("es"), Key::rsa("rs")];
    let guard = guard(&keys.each_ref());
    for key in &keys {
        assert_eq!(guard.verify(&key.sign(&claims())).unwrap().sub, "u1", "{}", key.alg);
    }
}

#[test]
fn jwt_header_04_a_public_key_is_no_secret() {
    for key in [Key::ed25519("k"), Key::p256("k"), Key::rsa("k")] {
        let guard = guard(&[&key]);
        let public = key.jwk.as_object().unwrap().get("x").or(key.jwk.get("n")).unwrap();
        let raw = URL_SAFE_NO_PAD.decode(public.as_str().unwrap()).unwrap();
        for secret in [raw, key.jwk.to_string().into_bytes(), public.as_str().unwrap().as_bytes().to_vec()] {
            let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": "k" }).to_string();
            let confused = sign(&header, &claims().to_string(), &EncodingKey::from_secret(&secret), Algorithm::HS256);
            assert_eq!(guard.verify(&confused).unwrap_err(), JwtRejection::Algorithm);
            let lying =
                sign(&key.header(), &claims().to_string(), &EncodingKey::from_secret(&secret), Algorithm::HS256);
            assert_eq!(guard.verify(&lying).unwrap_err(), JwtRejection::Signature);
        }
        assert!(guard.verify(&key.sign(&claims())).is_ok());
    }
}

#[test]
fn jwt_header_05_one_algorithm_per_key_not_a_family() {
    let key = Key::rsa("k");
    let guard = guard(&[&key]);
    for (alg, algorithm) in [("PS256", Algorithm::PS256), ("RS384", Algorithm::RS384)] {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": "k" }).to_string();
        let genuine = sign(&header, &claims().to_string(), &key.private, algorithm);
        assert_eq!(guard.verify(&genuine).unwrap_err(), JwtRejection::Algorithm, "{alg}");
        let hidden = sign(&key.header(), &claims().to_string(), &key.private, algorithm);
        assert_eq!(guard.verify(&hidden).unwrap_err(), JwtRejection::Signature, "{alg}");
    }
    assert!(guard.verify(&key.sign(&claims())).is_ok());
}

#[test]
fn jwt_header_07_11_an_unknown_or_retired_key_is_refused() {
    let (known, retired) = (Key::ed25519("known"), Key::ed25519("retired"));
    let guard = guard(&[&known]);
    assert_eq!(guard.verify(&retired.sign(&claims())).unwrap_err(), JwtRejection::UnknownKeyId);
    assert!(guard.verify(&known.sign(&claims())).is_ok());
    // A token signed by another key than its key id names.
    let impostor = retired.sign_with(&known.header(), &claims());
    assert_eq!(guard.verify(&impostor).unwrap_err(), JwtRejection::Signature);
}

#[test]
fn jwt_header_08_a_flood_of_unknown_keys_leaves_nothing_behind() {
    let key = Key::ed25519("known");
    let guard = guard(&[&key]);
    for n in 0..10_000 {
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": format!("k{n}") }).to_string();
        let header = URL_SAFE_NO_PAD.encode(header);
        assert_eq!(guard.verify(&format!("{header}.e30.AAAA")).unwrap_err(), JwtRejection::UnknownKeyId);
    }
    assert!(guard.verify(&key.sign(&claims())).is_ok());
}

#[test]
fn a_ring_wants_a_key_id_of_sound_form() {
    let key = Key::ed25519("k");
    let guard = guard(&[&key]);
    let without = key.sign_with(r#"{"alg":"EdDSA","typ":"at+jwt"}"#, &claims());
    assert_eq!(guard.verify(&without).unwrap_err(), JwtRejection::KeyId);
    for kid in ["", "../k", "k\0", "k ", &"k".repeat(65)] {
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": kid }).to_string();
        assert_eq!(guard.verify(&key.sign_with(&header, &claims())).unwrap_err(), JwtRejection::KeyId, "{kid:?}");
    }
    assert_eq!(guard.verify(&token(&claims())).unwrap_err(), JwtRejection::KeyId, "{HEADER}");
}

#[test]
fn jwt_header_13_a_key_of_another_purpose_signs_no_access_token() {
    let gateway = Key { typ: "gw+jwt".to_owned(), iss: "gateway".to_owned(), ..Key::ed25519("gw") };
    let auth = Key::ed25519("auth");
    let guard = guard(&[&gateway, &auth]);
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": "gw" }).to_string();
    assert_eq!(guard.verify(&gateway.sign_with(&header, &claims())).unwrap_err(), JwtRejection::Type);
    // Its own type does not help: a guard for access tokens requires the type of access tokens.
    let own = gateway.sign(&claims_with(json!({ "iss": "gateway" })));
    assert_eq!(guard.verify(&own).unwrap_err(), JwtRejection::Type);
    assert!(guard.verify(&auth.sign(&claims())).is_ok());
}

#[test]
fn a_key_speaks_for_its_own_issuer_alone() {
    let (ours, theirs) = (Key::ed25519("a"), Key { iss: "partner".to_owned(), ..Key::ed25519("b") });
    let guard = guard(&[&ours, &theirs]);
    let from = |key: &Key, iss: &str| guard.verify(&key.sign(&claims_with(json!({ "iss": iss })))).map(drop);
    assert_eq!(from(&ours, "nats-rpc-auth"), Ok(()));
    assert_eq!(from(&theirs, "partner"), Ok(()));
    assert_eq!(from(&theirs, "nats-rpc-auth"), Err(JwtRejection::Issuer));
    assert_eq!(from(&ours, "partner"), Err(JwtRejection::Issuer));
}

#[test]
fn jwt_signature_07_null_and_der_signatures_of_es256_are_refused() {
    let key = Key::p256("k");
    let guard = guard(&[&key]);
    let good = key.sign(&claims());
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let bad = [
        resign(&good, |signature| signature.fill(0)),
        resign(&good, |signature| signature[..32].copy_from_slice(&order)),
        resign(&good, |signature| signature[32..].copy_from_slice(&order)),
        resign(&good, |signature| {
            let (r, s) = signature.split_at(32);
            let der = [&[0x30, 0x46, 0x02, 0x21, 0x00][..], r, &[0x02, 0x21, 0x00], s].concat();
            *signature = der;
        }),
        resign(&good, |signature| signature.push(0)),
    ];
    for token in bad {
        assert_eq!(guard.verify(&token).unwrap_err(), JwtRejection::Signature);
    }
    assert!(guard.verify(&good).is_ok());
}

#[test]
fn jwt_signature_08_a_signature_of_ed25519_has_one_form() {
    let key = Key::ed25519("k");
    let guard = guard(&[&key]);
    let good = key.sign(&claims());
    // The group order L, little-endian (RFC 8032, section 5.1).
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10u8,
    ];
    let twin = resign(&good, |signature| {
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
    });
    assert_eq!(guard.verify(&twin).unwrap_err(), JwtRejection::Signature);
    assert!(guard.verify(&good).is_ok());
}

#[test]
fn claims_are_checked_as_with_a_secret() {
    let key = Key::ed25519("k");
    let guard = guard(&[&key]);
    let with = |changes: Value| guard.verify(&key.sign(&claims_with(changes))).map(drop);
    assert_eq!(with(json!({ "aud": "other" })), Err(JwtRejection::Audience));
    assert_eq!(with(json!({ "jti": null })), Err(JwtRejection::Id));
    assert_eq!(with(json!({ "exp": 1_800_100_000 })), Err(JwtRejection::Lifetime));
    assert_eq!(with(json!({})), Ok(()));
}

#[test]
fn a_key_is_used_from_its_beginning_to_its_end_and_what_was_verified_before_ends_with_it() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::testing::{NOW, at};

    // Another key is in use as well: otherwise no token could be verified.
    let (key, other) = (Key::ed25519("k"), Key::ed25519("other"));
    let mut document: Value = serde_json::from_slice(&document(1, &[&key, &other])).unwrap();
    document["keys"][0]["not_before"] = (NOW + 100).into();
    document["keys"][0]["not_after"] = (NOW + 200).into();
    let ring = KeyRing::from_json(document.to_string().as_bytes()).unwrap();
    let clock = Arc::new(AtomicU64::new(NOW));
    let shared = Arc::clone(&clock);
    let config = JwtConfig::ring(ring.clone()).clock(move || at(shared.load(Ordering::SeqCst)));
    let guard = JwtGuard::<UserClaims>::new(config).unwrap();
    let token = key.sign(&claims_with(json!({ "exp": NOW + 900 })));
    // With 5 s of skew at both ends.
    for (after, used) in [(0, false), (94, false), (95, true), (150, true), (204, true), (205, false), (150, true)] {
        clock.store(NOW + after, Ordering::SeqCst);
        let expected = if used { Ok(()) } else { Err(JwtRejection::KeyNotInUse) };
        assert_eq!(guard.verify(&token).map(drop), expected, "{after}");
    }
    // A heartbeat extends it.
    document["version"] = 2.into();
    document["keys"][0]["not_after"] = (NOW + 300).into();
    ring.replace(document.to_string().as_bytes()).unwrap();
    clock.store(NOW + 250, Ordering::SeqCst);
    assert!(guard.verify(&token).is_ok());
}

#[test]
fn without_a_key_in_use_no_token_is_told_from_another() {
    use super::super::clock::Hand;
    use super::super::testing::NOW;

    let (key, gateways) = (Key::ed25519("k"), Key { typ: "gw+jwt".to_owned(), ..Key::ed25519("gw") });
    let mut published: Value = serde_json::from_slice(&document(2, &[&key, &gateways])).unwrap();
    published["keys"][0]["not_after"] = (NOW + 200).into();
    let ring = KeyRing::from_json(&document(1, &[])).unwrap();
    let hand = Hand::at(NOW);
    let config = JwtConfig { clock: hand.clock(), ..JwtConfig::ring(ring.clone()) };
    let guard = JwtGuard::<UserClaims>::new(config).unwrap();
    let readiness = nats_rpc::Guard::readiness(&guard).unwrap();
    let (good, forged) = (key.sign(&claims()), Key::ed25519("nobody").sign(&claims()));
    let judge = || [&good, &forged].map(|token| guard.verify(token).map(drop));
    let unknown = [Err(JwtRejection::NoKeys); 2];
    assert_eq!((judge(), readiness.check().is_ok()), (unknown, false), "a ring that was provisioned");
    // A key for another token type verifies none of these.
    ring.replace(published.to_string().as_bytes()).unwrap();
    assert_eq!((judge(), readiness.check().is_ok()), ([Ok(()), Err(JwtRejection::UnknownKeyId)], true));
    // It has expired, as if no instance of auth had run for long.
    hand.step_to(NOW + 205);
    assert_eq!((judge(), readiness.check().is_ok()), (unknown, false));
    published["version"] = 3.into();
    published["keys"][0]["not_after"] = (NOW + 900).into();
    ring.replace(published.to_string().as_bytes()).unwrap();
    assert_eq!((judge(), readiness.check().is_ok()), ([Ok(()), Err(JwtRejection::UnknownKeyId)], true));
    // All were retired.
    ring.replace(&document(4, &[&gateways])).unwrap();
    assert_eq!((judge(), readiness.check().is_ok()), (unknown, false));
    // A malformed token is a 401 in any case.
    assert_eq!(guard.verify("e30.e30.AAAA").unwrap_err(), JwtRejection::Header);
    let secret = JwtGuard::<UserClaims>::new(super::super::testing::config()).unwrap();
    assert!(nats_rpc::Guard::readiness(&secret).is_none(), "a secret is always there");
}
