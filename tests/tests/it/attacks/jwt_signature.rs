//! Signatures that are missing, misspelled or crafted, and keys that make them possible.

use std::time::Instant;

use nats_rpc_jwt::{JwtConfig, KeyRing, KeyRingError};
use serde_json::{Value, json};

use super::forge::{Key, b64, claims, claims_with, document, resign, unb64};
use super::guarded::{Guarded, World, carrying};
use super::harness::{self, Outcome, cases};

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "jwt-signature-01" => stripped,
        "jwt-signature-02" => truncated,
        "jwt-signature-04" => another_spelling_of_the_last_character,
        "jwt-signature-05" => other_spellings_of_base64,
        "jwt-signature-07" => null_signatures_of_es256,
        "jwt-signature-08" => a_second_form_of_ed25519,
        "jwt-signature-10" => a_public_key_that_is_too_short,
        "jwt-signature-11" => key_documents_that_must_not_be_taken,
        "jwt-signature-13" => another_number_of_parts,
        "own-signature-swapped" => parts_of_two_genuine_tokens,
        "own-signature-guessed" => another_secret,
        "own-signature-long" => a_token_over_4_kib,
    ];
    harness::run(World::start, cases).await
}

async fn stripped(world: &World) {
    for (guarded, good) in [(&world.ring, world.ed.token(&claims())), (&world.secret, world.good())] {
        let (signed, _) = good.rsplit_once('.').unwrap();
        guarded.refuses(format!("{signed}.")).await;
        guarded.refuses(signed).await;
        guarded.takes(&good).await;
    }
}

async fn truncated(world: &World) {
    for (guarded, good) in [(&world.ring, world.ed.token(&claims())), (&world.secret, world.good())] {
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let bytes = unb64(signature);
        for length in 0..bytes.len() {
            guarded.refuses(format!("{signed}.{}", b64(&bytes[..length]))).await;
        }
        for length in 1..signature.len() {
            guarded.refuses(format!("{signed}.{}", &signature[..length])).await;
        }
        guarded.refuses(format!("{signed}.{}", b64([&bytes[..], &[0]].concat()))).await;
        guarded.takes(&good).await;
    }
}

async fn another_spelling_of_the_last_character(world: &World) {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (guarded, good) in [(&world.ring, world.ed.token(&claims())), (&world.secret, world.good())] {
        let (rest, last) = good.split_at(good.len() - 1);
        let value = ALPHABET.find(last).unwrap();
        // 64 bytes leave four unused bits in the last character, 32 bytes two: the others with the same
        // used bits are aliases, and the rest are other signatures.
        for other in ALPHABET.chars().enumerate().filter(|(other, _)| *other != value).map(|(_, other)| other) {
            guarded.refuses(format!("{rest}{other}")).await;
        }
        guarded.takes(&good).await;
    }
}

async fn other_spellings_of_base64(world: &World) {
    // A signature with both of the characters in question.
    let spelled = |signature: &str| signature.contains('-') && signature.contains('_');
    let tokens = (0..).map(|n| world.ed.token(&claims_with(json!({ "jti": n.to_string() }))));
    let good = tokens.into_iter().find(|token| spelled(token.rsplit('.').next().unwrap())).unwrap();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let other_alphabet = signature.replace('-', "+").replace('_', "/");
    for bad in [
        format!("{good}="),
        format!("{good}=="),
        format!("{header}=.{payload}.{signature}"),
        format!("{signed}.{other_alphabet}"),
        format!("{signed}.{}", signature.replace('-', "+")),
        format!("{signed}. {signature}"),
        format!("{signed}.{} {}", &signature[..20], &signature[20..]),
        format!("{good}%3D"),
    ] {
        world.ring.refuses(bad).await;
    }
    world.ring.takes(&good).await;

    // A line break cannot stand in a header of NATS; in a payload it can.
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        format!("{good}\n"),
        format!("\n{good}"),
        format!("{signed}.{}\n{}", &signature[..10], &signature[10..]),
        format!("{signed}\r\n.{signature}"),
        format!("{good}="),
        format!(" {good}"),
        format!("{good} "),
        format!("{good}\t"),
        format!("{good}\0"),
    ] {
        world.payload.refuses_message(&[], &carrying(&bad)).await;
    }
    world.payload.takes_message(&[], &carrying(&good)).await;
}

async fn null_signatures_of_es256(world: &World) {
    // The order of P-256 (FIPS 186-5).
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let good = world.es.token(&claims());
    let der = |signature: &[u8]| {
        let integer = |half: &[u8]| [&[0x02, 0x21, 0x00], half].concat();
        let body = [integer(&signature[..32]), integer(&signature[32..])].concat();
        [&[0x30, body.len() as u8][..], &body].concat()
    };
    for bad in [
        resign(&good, |signature| signature.fill(0)),
        resign(&good, |signature| signature[..32].fill(0)),
        resign(&good, |signature| signature[32..].fill(0)),
        resign(&good, |signature| signature[..32].copy_from_slice(&order)),
        resign(&good, |signature| signature[32..].copy_from_slice(&order)),
        resign(&good, |signature| [&order[..], &order].concat().clone_into(signature)),
        resign(&good, |signature| *signature = der(signature)),
        resign(&good, |signature| *signature = der(&[0; 64])),
        resign(&good, |signature| signature.push(0)),
    ] {
        world.ring.refuses(bad).await;
    }
    world.ring.takes(&good).await;
}

async fn a_second_form_of_ed25519(world: &World) {
    // The group order L, little-endian (RFC 8032, section 5.1).
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10u8,
    ];
    let add_order = |signature: &mut Vec<u8>| {
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
    };
    let good = world.ed.token(&claims());
    let twin = resign(&good, add_order);
    world.ring.refuses(resign(&twin, add_order)).await;
    world.ring.refuses(twin).await;
    world.ring.refuses(resign(&good, |signature| signature.fill(0))).await;
    world.ring.takes(&good).await;
}

async fn a_public_key_that_is_too_short(world: &World) {
    for bytes in [0, 3, 31, 33] {
        let short =
            Key { jwk: json!({ "kty": "OKP", "crv": "Ed25519", "x": b64(vec![1; bytes]) }), ..Key::ed25519("short") };
        let ring = KeyRing::from_json(&document(1, &[short.entry(), world.ed.entry()])).unwrap();
        let guarded = Guarded::start(&world.server, "short", JwtConfig::ring(ring).clock(world.now.clock())).await;
        guarded.refuses(short.token(&claims())).await;
        guarded.takes(world.ed.token(&claims())).await;
    }
}

async fn key_documents_that_must_not_be_taken(world: &World) {
    let ring = KeyRing::from_json(&document(1, &[world.ed.entry()])).unwrap();
    let config = JwtConfig::ring(ring.clone()).clock(world.now.clock());
    let guarded = Guarded::start(&world.server, "documents", config).await;
    let with = |key: &Key, members: Value| {
        let mut entry = key.entry();
        entry["jwk"].as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        entry
    };
    let replaced = |entry: &Value, alg: &str, jwk: Value| {
        let mut entry = entry.clone();
        (entry["alg"], entry["jwk"]) = (json!(alg), jwk);
        entry
    };
    let next = Key::ed25519("next");
    let token = next.token(&claims());

    // The whole update is refused, and what was there stays.
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].map(|member| with(&next, json!({ member: "AAAA" })));
    let symmetric = replaced(&next.entry(), "HS256", json!({ "kty": "oct", "k": b64([7; 32]) }));
    for entry in private.into_iter().chain([symmetric]) {
        let refused = ring.replace(&document(2, &[world.ed.entry(), entry])).unwrap_err();
        assert_eq!(refused, KeyRingError::PrivateKey { kid: "next".to_owned() });
        guarded.refuses(&token).await;
        guarded.takes(world.ed.token(&claims())).await;
    }
    let twice = ring.replace(&document(2, &[next.entry(), world.ed.entry(), next.entry()])).unwrap_err();
    assert_eq!(twice, KeyRingError::DuplicateKeyId { kid: "next".to_owned() });
    guarded.refuses(&token).await;

    // The key alone is left out.
    let weak_rsa =
        |bytes: usize, exponent: &[u8]| json!({ "kty": "RSA", "n": b64(vec![0xff; bytes]), "e": b64(exponent) });
    for (version, (alg, jwk)) in [
        ("RS256", weak_rsa(128, &[1, 0, 1])),
        ("RS256", weak_rsa(256, &[1])),
        ("EdDSA", json!({ "kty": "LMS", "x": "AAAA" })),
        ("EdDSA", json!({ "kty": "OKP", "crv": "Ed448", "x": b64([1; 57]) })),
        ("HS256", next.jwk.clone()),
        ("none", next.jwk.clone()),
    ]
    .into_iter()
    .enumerate()
    {
        let update = document(version as u64 + 2, &[world.ed.entry(), replaced(&next.entry(), alg, jwk)]);
        ring.replace(&update).unwrap();
        guarded.refuses(&token).await;
        guarded.takes(world.ed.token(&claims())).await;
    }
    // The very key, as it should be published.
    ring.replace(&document(100, &[world.ed.entry(), next.entry()])).unwrap();
    guarded.takes(&token).await;
}

async fn another_number_of_parts(world: &World) {
    let good = world.ed.token(&claims());
    let (header, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let hundred = vec!["a"; 100].join(".");
    let two_hundred_of_ours = vec![header; 40].join(".");
    for bad in [
        "a",
        "a.b",
        "a.b.c.d",
        "..",
        ".",
        "...",
        hundred.as_str(),
        two_hundred_of_ours.as_str(),
        header,
        &format!("{header}.{payload}"),
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}.{signature}"),
        &format!(".{payload}.{signature}"),
        &format!("{header}..{signature}"),
    ] {
        world.ring.refuses(bad).await;
    }
    // Dots alone, as many as a header takes: work stays proportional to length.
    let started = Instant::now();
    world.ring.refuses(".".repeat(1 << 20)).await;
    assert!(started.elapsed() < crate::support::PATIENCE / 2);
    world.ring.takes(&good).await;
}

async fn parts_of_two_genuine_tokens(world: &World) {
    let mine = world.ed.token(&claims());
    let admin = world.ed.token(&claims_with(json!({ "sub": "root", "roles": ["admin"] })));
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (mine_parts, admin_parts) = (parts(&mine), parts(&admin));
    world.ring.refuses(format!("{}.{}.{}", mine_parts[0], admin_parts[1], mine_parts[2])).await;
    let foreign = world.es.token(&claims());
    world.ring.refuses(format!("{}.{}.{}", mine_parts[0], mine_parts[1], parts(&foreign)[2])).await;
    world.ring.takes(&mine).await;
    world.ring.takes(&admin).await;
}

async fn another_secret(world: &World) {
    use jsonwebtoken::{Algorithm, EncodingKey};
    let claims = claims().to_string();
    let forge = |secret: &[u8]| {
        super::forge::sign(super::forge::HEADER, &claims, &EncodingKey::from_secret(secret), Algorithm::HS256)
    };
    for secret in ["", "secret", "your-secret-key", "your-refresh-secret", &super::forge::SECRET[1..]] {
        world.secret.refuses(forge(secret.as_bytes())).await;
    }
    world.secret.takes(forge(super::forge::SECRET.as_bytes())).await;
}

async fn a_token_over_4_kib(world: &World) {
    let padded = |bytes: usize| world.ed.token(&claims_with(json!({ "pad": "x".repeat(bytes) })));
    world.ring.refuses(padded(3_000)).await;
    world.ring.refuses(padded(1 << 20)).await;
    world.ring.refuses("a".repeat(1 << 20)).await;
    world.ring.takes(padded(2_400)).await;
}
