//! Documents that should not be there, restarts, renewals.

use std::time::SystemTime;

use super::*;
use crate::renewal::{deadly, until_renewed};
use crate::support::{send_raw, silence};

#[tokio::test]
async fn an_old_document_is_refused_and_put_right_by_the_next_instance_that_sees_it() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let (keys, guard, store) = (keys(&connection, config()).await, guard(&connection).await, store(&server).await);
    let stolen = issue(&keys);
    assert!(soon(guard.verify_async(&stolen)).await.is_ok());
    let old = store.get(RING).await.unwrap().unwrap();
    bucket(&connection).await.retire(&kid(&stolen)).await.unwrap();
    until_refused(&guard, &stolen, JwtRejection::UnknownKeyId).await;
    soon(async {
        while keys.kid().is_none_or(|now| now == kid(&stolen)) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let fresh = issue(&keys);
    until_taken(&guard, &fresh).await;

    let rolled_back = store.put(RING, old).await.unwrap();
    soon(async { while store.entry(RING).await.unwrap().unwrap().revision <= rolled_back {} }).await;
    assert_eq!(guard.verify(&stolen).unwrap_err(), JwtRejection::UnknownKeyId, "the retired key does not come back");
    assert!(guard.verify(&fresh).is_ok());
    let document = document(&store).await;
    assert!(document["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid(&stolen).as_str()), "{document}");
    assert!(document["keys"].as_array().unwrap().iter().any(|key| key["kid"] == kid(&fresh).as_str()), "{document}");
}

#[tokio::test]
async fn a_document_that_is_none_keeps_the_keys_in_use_and_is_put_right() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let (keys, guard, store) = (keys(&connection, config()).await, guard(&connection).await, store(&server).await);
    let token = issue(&keys);
    assert!(soon(guard.verify_async(&token)).await.is_ok());
    let good = document(&store).await;
    let with = |change: &dyn Fn(&mut Value)| {
        let mut document = good.clone();
        document["version"] = json!(1_000);
        change(&mut document);
        document.to_string()
    };
    let bad = [
        "nonsense".to_owned(),
        "[]".to_owned(),
        with(&|document| document["keys"][0]["jwk"] = json!({ "kty": "oct", "k": "AAAA" })),
        with(&|document| document["keys"][0]["jwk"]["d"] = json!("AAAA")),
        with(&|document| document["keys"][0]["kid"] = json!("mine")),
        with(&|document| document["keys"] = json!([document["keys"][0], document["keys"][0]])),
        with(&|document| document["version"] = json!(1)),
        with(&|document| document["version"] = json!(u64::MAX)),
    ];
    for bad in bad {
        let written = store.put(RING, bad.clone().into()).await.unwrap();
        soon(async { while store.entry(RING).await.unwrap().unwrap().revision <= written {} }).await;
        let mended = document(&store).await;
        assert_eq!(mended["keys"][0]["kid"], kid(&token).as_str(), "{bad}");
        assert!(guard.verify(&issue(&keys)).is_ok(), "{bad}");
    }
    store.delete(RING).await.unwrap();
    soon(async { while store.get(RING).await.unwrap().is_none() {} }).await;
    assert!(guard.verify(&issue(&keys)).is_ok());
}

/// Somebody plants a key, and the highest version there is so that nobody can write after it.
#[tokio::test]
async fn a_key_that_is_planted_with_the_highest_version_is_believed_by_nobody_and_can_be_retired() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let (guard, store) = (guard(&connect(&server).await).await, store(&server).await);
    let before = issue(&keys(&connection, config()).await);
    until_taken(&guard, &before).await;
    // No instance runs that could put it right.
    let (kid, jwk) = ("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let mut planted = document(&store).await;
    planted["version"] = json!(u64::MAX);
    let entry = json!({
        "kid": kid, "alg": "EdDSA", "typ": "at+jwt", "iss": "nats-rpc-auth",
        "jwk": { "kty": "OKP", "crv": "Ed25519", "x": jwk }
    });
    // A second one, with an end as near as those of honest keys.
    let second = "FtIu-VbGrfe_KB6CH7GNwODB72MNxj_ml11dEvO-7kk";
    let mut near = planted["keys"][0].clone();
    (near["kid"], near["jwk"]["x"]) = (json!(second), json!("PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw"));
    planted["keys"].as_array_mut().unwrap().extend([entry, near]);
    store.put(RING, planted.to_string().into()).await.unwrap();
    assert!(soon(guard.verify_async(&before)).await.is_ok());
    let restarted = ring(&connect(&server).await).await;
    assert!(!format!("{restarted:?}").contains(kid), "{restarted:?}");

    let bucket = bucket(&connection).await;
    assert!(bucket.list().await.unwrap().iter().any(|key| key.kid == kid), "an operator sees it");
    let gone = bucket.retire(kid).await.unwrap();
    assert!(gone.len() == 2 && gone.iter().any(|key| key == second), "{gone:?}");
    assert_eq!(bucket.list().await.unwrap(), [], "nothing that nobody believed is believed now");
    // What is written after that counts again, for verifiers of any age.
    let after = issue(&keys(&connection, config()).await);
    for guard in [&guard, &JwtGuard::new(JwtConfig::ring(restarted)).unwrap()] {
        until_taken(guard, &after).await;
        assert!(guard.verify(&before).is_err(), "nor can an honest key be told from others");
    }
}

/// The same, and nobody retires it before auth starts.
#[tokio::test]
async fn an_instance_that_starts_puts_right_what_was_planted_while_none_ran() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let (guard, store) = (guard(&connect(&server).await).await, store(&server).await);
    until_taken(&guard, &issue(&keys(&connection, config()).await)).await;
    for bad in [r#"{"version":18446744073709551615,"keys":[]}"#, "nonsense"] {
        store.put(RING, bad.into()).await.unwrap();
        until_taken(&guard, &issue(&keys(&connection, config()).await)).await;
    }
}

#[tokio::test]
async fn a_verifier_that_restarts_knows_every_key_before_it_serves() {
    let server = provisioned().await;
    let connection = connect(&server).await;
    let keys = keys(&connection, config()).await;
    let old = issue(&keys);
    soon(keys.rotate()).await.unwrap();
    let new = issue(&keys);
    let restarted = guard(&connect(&server).await).await;
    for token in [old, new] {
        assert!(restarted.verify(&token).is_ok());
    }
}

#[tokio::test]
async fn a_key_that_the_watch_does_not_bring_is_looked_up_when_a_token_names_it() {
    let server = provisioned().await;
    let (ours, theirs) = (connect(&server).await, connect(&server).await);
    let (guard, store) = (guard(&ours).await, store(&server).await);
    silence(&store.stream).await;
    let token = issue(&keys(&theirs, config()).await);
    // The first time asks for the ring; a busy machine may take longer for it than the token waits.
    let _ = soon(guard.verify_async(&token)).await;
    until_taken(&guard, &token).await;
}

#[tokio::test]
async fn verifiers_and_instances_whose_client_died_go_on_with_the_next() {
    let server = provisioned().await;
    let (a, b) = (connect(&server).await, connect(&server).await);
    let (keys, guard) = (keys(&a, config()).await, guard(&b).await);
    for (n, connection) in [&a, &b].into_iter().enumerate() {
        let victim = format!("keys.victim.{n}");
        let _subscription = connection.nats().subscribe(victim.clone()).await.unwrap();
        connection.round_trip(PATIENCE).await.unwrap();
        send_raw(&server, &deadly(&victim)).await;
        until_renewed(connection).await;
    }
    soon(keys.rotate()).await.unwrap();
    until_taken(&guard, &issue(&keys)).await;
}

#[tokio::test]
async fn without_a_secret_and_without_a_ring_a_start_says_what_to_do() {
    let server = server();
    let connection = connect(&server).await;
    let refused = soon(JwtConfig::load(&connection, |_| None)).await.unwrap_err().to_string();
    assert!(["auth_jwks", "auth provision", "JWT_SECRET"].iter().all(|word| refused.contains(word)), "{refused}");
    let secret = "0123456789abcdef0123456789abcdef";
    let open = |name: &str| match name {
        "JWT_SECRET" => Some(secret.to_owned()),
        "JWT_CHECK_REVOCATIONS" => Some("false".to_owned()),
        _ => None,
    };
    assert!(soon(JwtConfig::load(&connection, open)).await.is_ok(), "a secret needs no ring");
    let refused = soon(SigningKeys::open(&connection, config())).await.unwrap_err().to_string();
    assert!(refused.contains("auth provision"), "{refused}");
}

/// Somebody who may write the bucket plants the identity point, with which anybody can forge.
#[tokio::test]
async fn a_weak_key_is_left_out_and_taken_out_of_the_ring() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    let server = provisioned().await;
    let connection = connect(&server).await;
    let verifier = ring(&connect(&server).await).await;
    let guard = JwtGuard::<nats_rpc_jwt::UserClaims>::new(JwtConfig::ring(verifier.clone())).unwrap();
    let (keys, store) = (keys(&connection, config()).await, store(&server).await);
    let good = issue(&keys);
    until_taken(&guard, &good).await;

    let point = [&[1][..], &[0; 31]].concat();
    let x = URL_SAFE_NO_PAD.encode(&point);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
    let weak = crate::support::thumbprint(&jwk);
    let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": weak }).to_string();
    let payload = good.split('.').nth(1).unwrap();
    let signed = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
    let signature = URL_SAFE_NO_PAD.encode([&point[..], &[0; 32]].concat());
    let raw = jsonwebtoken::DecodingKey::from_ed_der(&point);
    let verified = jsonwebtoken::crypto::verify(&signature, signed.as_bytes(), &raw, jsonwebtoken::Algorithm::EdDSA);
    assert!(verified.unwrap(), "the control: whoever takes the key takes the token");
    let forged = format!("{signed}.{signature}");

    let mut planted = document(&store).await;
    let mut entry = planted["keys"][0].clone();
    (entry["kid"], entry["jwk"]) = (json!(weak), jwk);
    planted["keys"].as_array_mut().unwrap().push(entry);
    planted["version"] = json!(planted["version"].as_u64().unwrap() + 1);
    let version = planted["version"].as_u64().unwrap();
    let written = store.put(RING, planted.to_string().into()).await.unwrap();
    soon(async {
        // The instance puts it right at once, and no verifier takes the key in between.
        while verifier.version() <= version {
            assert_ne!(guard.verify(&forged).map(drop), Ok(()));
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            assert_eq!(keys.ring().jwk_set(now).len(), 1);
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(store.entry(RING).await.unwrap().unwrap().revision > written);
    assert_eq!(document(&store).await["keys"].as_array().unwrap().len(), 1);
    assert_eq!(guard.verify(&forged).unwrap_err(), JwtRejection::UnknownKeyId);
    assert!(guard.verify(&good).is_ok());
}
