//! A gateway's word for a caller: for something else, beside another source, in another's place.

use nats_rpc_jwt::prelude::*;
use nats_rpc_jwt::{AssertionSigner, SecretKey};
use serde_json::json;

use super::super::capture;
use super::super::forge::{NOW, b64, unb64};
use super::super::guarded::{Hand, carrying, secret};
use super::{World, assertion_secret, bearer, good};

pub(super) async fn assertions_for_something_else(world: &World) {
    let body = json!({ "user": { "sub": "u7" }, "a": 1 }).to_string();
    let subject = world.asserted.subject("whoami");
    let signer = |made: u64| AssertionSigner::hs256(&assertion_secret()).clock(Hand::at(made).clock());
    let caller = || UserClaims::new("u7").with_sid("s7");
    let sign = |signer: AssertionSigner, subject: &str, body: &str| {
        capture::secret(signer.sign(&caller(), subject, body.as_bytes()).unwrap())
    };
    let asserted = async |assertion: &str, body: &str| {
        world.asserted.refuses_message(&[("nrpc-assert", assertion)], body).await;
    };

    world.asserted.refuses_message(&[], &body).await;
    asserted("", &body).await;
    for made in [NOW - 15, NOW - 3_600, NOW + 6] {
        asserted(&sign(signer(made), &subject, &body), &body).await;
    }
    for other in ["asserted.admin", "asserted.whoami.x", "whoami", "gw.whoami", "asserted.*", ">"] {
        asserted(&sign(signer(NOW), other, &body), &body).await;
    }
    for other in [r#"{"user":{"sub":"u7"},"a":2}"#, "", "{}", &format!("{body} ")] {
        asserted(&sign(signer(NOW), &subject, other), &body).await;
    }
    asserted(&sign(signer(NOW).audience("other"), &subject, &body), &body).await;
    // Signed for one user, forwarded with another.
    let other = r#"{"user":{"sub":"u8"}}"#;
    asserted(&sign(signer(NOW), &subject, other), other).await;
    // By a stranger, and by who knows the secret of access tokens.
    let stranger = SecretKey::new("S", "a secret that the gateway does not have").unwrap();
    for secret in [stranger, secret()] {
        let forger = AssertionSigner::hs256(&secret).clock(Hand::at(NOW).clock());
        asserted(&sign(forger, &subject, &body), &body).await;
    }
    // Edited: another subject of the token under the same signature.
    let good = sign(signer(NOW), &subject, &body);
    let parts: Vec<_> = good.split('.').collect();
    let edited = String::from_utf8(unb64(parts[1])).unwrap().replace("u7", "u8");
    asserted(&format!("{}.{}.{}", parts[0], b64(edited), parts[2]), &body).await;
    // Two at once.
    let twice = [("nrpc-assert", good.as_str()), ("Nrpc-Assert", &good)];
    world.asserted.refuses_message(&twice, &body).await;

    // None of the above used it up. It is good once.
    let seen = world.asserted.takes_message(&[("nrpc-assert", &good)], &body).await;
    assert_eq!((seen.sub.as_str(), seen.payload), ("u7", Some(json!({ "a": 1 }))));
    asserted(&good, &body).await;
    let another = sign(signer(NOW), &subject, &body);
    world.asserted.takes_message(&[("nrpc-assert", &another)], &body).await;
}

pub(super) async fn an_assertion_and_a_token_change_places(world: &World) {
    let subject = world.asserted.subject("whoami");
    let assertion = AssertionSigner::hs256(&assertion_secret()).clock(Hand::at(NOW).clock());
    let assertion = assertion.sign(&UserClaims::new("u7"), &subject, b"{}").unwrap();
    world.asserted.refuses_message(&[("authorization", &bearer(&assertion))], "{}").await;
    world.asserted.refuses_message(&[("nrpc-assert", &good())], "{}").await;
    world.asserted.refuses_message(&[("nrpc-assert", &bearer(&assertion))], "{}").await;
    world.asserted.takes_message(&[("nrpc-assert", &assertion)], "{}").await;
    world.asserted.takes_message(&[("authorization", &bearer(&good()))], "{}").await;
}

pub(super) async fn any_two_sources(world: &World) {
    let token = bearer(&good());
    let assert_for = |body: &str| {
        let signer = AssertionSigner::hs256(&assertion_secret()).clock(Hand::at(NOW).clock());
        signer.sign(&UserClaims::new("u1"), &world.dev.subject("whoami"), body.as_bytes()).unwrap()
    };
    let (user, carried, both) = (
        r#"{"user":{"sub":"u1"}}"#,
        carrying(&good()),
        json!({ "user": { "sub": "u1" }, "token": good() }).to_string(),
    );
    let header = ("authorization", token.as_str());
    for (by_header, by_assertion, body) in [
        (true, true, "{}"),
        (true, false, user),
        (true, false, &carried),
        (false, true, user),
        (false, true, &carried),
        (false, false, &both),
    ] {
        let assertion = assert_for(body);
        let mut headers = Vec::new();
        if by_header {
            headers.push(header);
        }
        if by_assertion {
            headers.push(("nrpc-assert", assertion.as_str()));
        }
        world.dev.refuses_message(&headers, body).await;
    }
    world.dev.takes_message(&[header], "{}").await;
    world.dev.takes_message(&[("nrpc-assert", &assert_for("{}"))], "{}").await;
    world.dev.takes_message(&[], &carried).await;
    world.dev.takes_message(&[], user).await;
}
