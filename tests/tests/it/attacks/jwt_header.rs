//! What a token's header claims of it: algorithm, key, type, and what does not belong there.

use jsonwebtoken::{Algorithm, EncodingKey};
use nats_rpc_jwt::{JwtConfig, KeyRing};
use serde_json::json;

use super::forge::{HEADER, Key, SECRET, b64, claims, claims_with, document, sign, sign_raw, signed_with_secret};
use super::guarded::{Guarded, World};
use super::harness::{self, Outcome, cases};

pub(super) async fn run() -> Vec<Outcome> {
    let cases = cases![
        "jwt-header-01" => alg_none,
        "jwt-header-02" => alg_none_in_other_words,
        "jwt-header-04" => a_public_key_as_secret,
        "jwt-header-05" => another_algorithm_of_the_family,
        "jwt-header-07" => an_unknown_key,
        "jwt-header-10" => a_key_id_that_is_none,
        "jwt-header-11" => a_retired_key,
        "jwt-header-13" => a_key_of_another_purpose,
        "jwt-header-14" => a_key_in_the_header,
        "jwt-header-16" => critical_members,
        "jwt-header-17" => a_payload_as_it_is,
        "jwt-header-19" => an_encrypted_token,
        "jwt-header-20" => members_twice,
        "jwt-header-22" => the_type_in_other_spellings,
        "jwt-header-23" => the_algorithm_in_another_case,
        "own-header-json" => a_header_that_is_no_object,
        "own-header-keyless" => a_token_that_names_no_key_of_the_ring,
        "own-header-secret-kid" => a_key_named_where_there_is_one_secret,
    ];
    harness::run(World::start, cases).await
}

async fn alg_none(world: &World) {
    let claims = claims().to_string();
    let header = world.ed.header_with(json!({ "alg": "none" }));
    let unsigned = format!("{}.{}", b64(&header), b64(&claims));
    let good = world.ed.sign(&world.ed.header().to_string(), &claims);
    let genuine = good.rsplit('.').next().unwrap();
    for token in [format!("{unsigned}."), unsigned.clone(), format!("{unsigned}.{genuine}"), format!("{unsigned}.AA")] {
        world.ring.refuses(token).await;
    }
    let unsigned = format!("{}.{}.", b64(r#"{"alg":"none","typ":"at+jwt"}"#), b64(&claims));
    world.secret.refuses(unsigned).await;
    world.ring.takes(good).await;
}

async fn alg_none_in_other_words(world: &World) {
    let claims = claims().to_string();
    for alg in [json!("None"), json!("NONE"), json!("nOnE"), json!("none "), json!(""), json!(null), json!(0)] {
        // `null` as a value, where `header_with` would leave the member out.
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": "ed" }).to_string();
        world.ring.refuses(world.ed.sign(&header, &claims)).await;
        world.ring.refuses(format!("{}.{}.", b64(&header), b64(&claims))).await;
        let header = json!({ "alg": alg, "typ": "at+jwt" }).to_string();
        world.secret.refuses(signed_with_secret(&header, &claims)).await;
    }
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "alg": null })), &claims)).await;
    world.secret.refuses(signed_with_secret(r#"{"typ":"at+jwt"}"#, &claims)).await;
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "alg": "EdDSA" })), &claims)).await;
    world.secret.takes(signed_with_secret(HEADER, &claims)).await;
}

async fn a_public_key_as_secret(world: &World) {
    let claims = claims().to_string();
    let pem = |der: &[u8]| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n").into_bytes()
    };
    for key in [&world.ed, &world.es, &world.rs] {
        let member = key.jwk.get("x").or(key.jwk.get("n")).unwrap().as_str().unwrap();
        let raw = super::forge::unb64(member);
        let mut secrets = vec![raw, member.as_bytes().to_vec(), key.jwk.to_string().into_bytes()];
        if key.alg != "RS256" {
            let der = key.spki();
            secrets.extend([pem(&der), der]);
        }
        for secret in secrets {
            let secret = EncodingKey::from_secret(&secret);
            let confused = key.header_with(json!({ "alg": "HS256" }));
            world.ring.refuses(sign(&confused, &claims, &secret, Algorithm::HS256)).await;
            // The same, with a header that admits to nothing.
            world.ring.refuses(sign(&key.header().to_string(), &claims, &secret, Algorithm::HS256)).await;
        }
        world.ring.takes(key.sign(&key.header_with(json!({ "alg": key.alg })), &claims)).await;
    }
}

async fn another_algorithm_of_the_family(world: &World) {
    let claims = claims().to_string();
    let key = &world.rs;
    let good = key.sign(&key.header().to_string(), &claims);
    let (_, rest) = good.split_once('.').unwrap();
    for (alg, algorithm) in [
        ("PS256", Algorithm::PS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS384", Algorithm::PS384),
    ] {
        let header = key.header_with(json!({ "alg": alg }));
        world.ring.refuses(format!("{}.{rest}", b64(&header))).await;
        world.ring.refuses(sign(&header, &claims, &key.private, algorithm)).await;
        world.ring.refuses(sign(&key.header().to_string(), &claims, &key.private, algorithm)).await;
    }
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    for (alg, algorithm) in [("HS384", Algorithm::HS384), ("HS512", Algorithm::HS512)] {
        let header = json!({ "alg": alg, "typ": "at+jwt" }).to_string();
        world.secret.refuses(sign(&header, &claims, &secret, algorithm)).await;
    }
    world.ring.takes(good).await;
    world.secret.takes(sign(HEADER, &claims, &secret, Algorithm::HS256)).await;
}

async fn an_unknown_key(world: &World) {
    let stranger = Key::ed25519("stranger");
    world.ring.refuses(stranger.token(&claims())).await;
    // A known key's signature under an unknown id, and the reverse.
    let claims = claims().to_string();
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "kid": "stranger" })), &claims)).await;
    world.ring.refuses(stranger.sign(&stranger.header_with(json!({ "kid": "ed" })), &claims)).await;
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "kid": "ed" })), &claims)).await;
}

async fn a_key_id_that_is_none(world: &World) {
    let claims = claims().to_string();
    for kid in [json!(7), json!(["ed"]), json!({ "ed": "ed" }), json!(null), json!(true)] {
        let header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": kid }).to_string();
        world.ring.refuses(world.ed.sign(&header, &claims)).await;
    }
    let huge = world.ed.header_with(json!({ "kid": "k".repeat(1 << 20) }));
    world.ring.refuses(world.ed.sign(&huge, &claims)).await;
    for kid in ["", "../ed", "ed\0", "ed ", " ed", "ED", "e.d", "ed'--", "ed%00", "\u{435}d", &"k".repeat(65)] {
        world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "kid": kid })), &claims)).await;
    }
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "kid": "ed" })), &claims)).await;
}

async fn a_retired_key(world: &World) {
    let retiring = Key::ed25519("retiring");
    let ring = KeyRing::from_json(&document(1, &[world.ed.entry(), retiring.entry()])).unwrap();
    let config = JwtConfig::ring(ring.clone()).clock(world.now.clock());
    let guarded = Guarded::start(&world.server, "retiring", config).await;
    let token = retiring.token(&claims());
    // Taken, and so in the cache of verified tokens.
    guarded.takes(&token).await;
    ring.replace(&document(2, &[world.ed.entry()])).unwrap();
    guarded.refuses(&token).await;
    guarded.refuses(retiring.token(&claims_with(json!({ "jti": "another" })))).await;
    guarded.takes(world.ed.token(&claims())).await;
}

async fn a_key_of_another_purpose(world: &World) {
    let claims = claims().to_string();
    let of_gateway = claims.replace("nats-rpc-auth", "gateway");
    for payload in [&claims, &of_gateway] {
        for typ in ["at+jwt", "gw+jwt", "JWT"] {
            let header = world.gateway.header_with(json!({ "typ": typ }));
            world.ring.refuses(world.gateway.sign(&header, payload)).await;
        }
    }
    // And the reverse: a key for access tokens makes no assertion.
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "typ": "gw+jwt" })), &claims)).await;
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "typ": "at+jwt" })), &claims)).await;
}

async fn a_key_in_the_header(world: &World) {
    let claims = claims().to_string();
    let attacker = Key::ed25519("attacker");
    for kid in [json!("ed"), json!("attacker"), json!(null)] {
        for (name, value) in [
            ("jwk", attacker.jwk.clone()),
            ("jku", json!("https://attacker.example/jwks.json")),
            ("x5c", json!([b64(attacker.spki())])),
            ("x5u", json!("https://attacker.example/chain.pem")),
            ("x5t", json!(b64([0; 20]))),
        ] {
            let header = attacker.header_with(json!({ "kid": kid, name: value }));
            world.ring.refuses(attacker.sign(&header, &claims)).await;
        }
    }
    // Our own key, named and embedded: still not a header that we make.
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "jwk": world.ed.jwk })), &claims)).await;
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "jwk": null })), &claims)).await;
}

async fn critical_members(world: &World) {
    let claims = claims().to_string();
    for members in [json!({ "crit": ["exp"] }), json!({ "crit": [] }), json!({ "crit": ["b64"], "b64": false })] {
        world.ring.refuses(world.ed.sign(&world.ed.header_with(members), &claims)).await;
    }
    let secret = r#"{"alg":"HS256","typ":"at+jwt","crit":["exp"]}"#;
    world.secret.refuses(signed_with_secret(secret, &claims)).await;
    world.ring.takes(world.ed.sign(&world.ed.header_with(json!({})), &claims)).await;
    world.secret.takes(signed_with_secret(HEADER, &claims)).await;
}

async fn a_payload_as_it_is(world: &World) {
    let claims = claims().to_string();
    let header = b64(world.ed.header_with(json!({ "b64": false })));
    let sign = |header: &str, payload: &str| sign_raw(header, payload, &world.ed.private, Algorithm::EdDSA);
    // RFC 7797, section 3: the payload itself is what is signed.
    world.ring.refuses(sign(&header, &claims)).await;
    world.ring.refuses(sign(&header, &b64(&claims))).await;
    let plain = b64(world.ed.header().to_string());
    world.ring.refuses(sign(&plain, &claims)).await;
    world.ring.takes(sign(&plain, &b64(&claims))).await;
}

async fn an_encrypted_token(world: &World) {
    let header = b64(r#"{"alg":"dir","enc":"A256GCM","typ":"at+jwt","kid":"ed"}"#);
    world.ring.refuses(format!("{header}..{}.{}.{}", b64([1; 12]), b64([2; 64]), b64([3; 16]))).await;
    let good = world.ed.token(&claims());
    world.ring.refuses(format!("{good}.AAAA.AAAA")).await;
    world.ring.takes(good).await;
}

async fn members_twice(world: &World) {
    let claims = claims().to_string();
    for header in [
        r#"{"alg":"EdDSA","alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#,
        r#"{"alg":"none","alg":"EdDSA","typ":"at+jwt","kid":"ed"}"#,
        r#"{"alg":"EdDSA","alg":"none","typ":"at+jwt","kid":"ed"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed","kid":"ed"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed","kid":"gw"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","kid":"ed","\u006bid":"ed"}"#,
        r#"{"alg":"EdDSA","\u0061lg":"EdDSA","typ":"at+jwt","kid":"ed"}"#,
        r#"{"alg":"EdDSA","typ":"at+jwt","typ":"at+jwt","kid":"ed"}"#,
    ] {
        world.ring.refuses(world.ed.sign(header, &claims)).await;
    }
    // An escape alone is another spelling of the same member.
    world.ring.takes(world.ed.sign(r#"{"alg":"EdDSA","typ":"at+jwt","\u006bid":"ed"}"#, &claims)).await;
}

/// Media types know no case (RFC 7515, section 4.1.9): here taking is what is expected.
async fn the_type_in_other_spellings(world: &World) {
    let claims = claims().to_string();
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        world.ring.takes(world.ed.sign(&world.ed.header_with(json!({ "typ": typ })), &claims)).await;
        let header = json!({ "alg": "HS256", "typ": typ }).to_string();
        world.secret.takes(signed_with_secret(&header, &claims)).await;
    }
    for typ in ["JWT", "at+jwt ", "text/at+jwt", "application/application/at+jwt", "rt+jwt", "at\u{212a}jwt", ""] {
        world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "typ": typ })), &claims)).await;
    }
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "typ": null })), &claims)).await;
}

async fn the_algorithm_in_another_case(world: &World) {
    let claims = claims().to_string();
    for (key, alg) in [(&world.ed, "eddsa"), (&world.ed, "EDDSA"), (&world.es, "es256"), (&world.rs, "rs256")] {
        world.ring.refuses(key.sign(&key.header_with(json!({ "alg": alg })), &claims)).await;
        world.ring.takes(key.sign(&key.header_with(json!({ "alg": key.alg })), &claims)).await;
    }
    world.secret.refuses(signed_with_secret(r#"{"alg":"hs256","typ":"at+jwt"}"#, &claims)).await;
    world.secret.takes(signed_with_secret(HEADER, &claims)).await;
}

async fn a_header_that_is_no_object(world: &World) {
    let claims = claims().to_string();
    let object = world.ed.header().to_string();
    // serde reads a struct from an array as well.
    let array = r#"["EdDSA","at+jwt","ed"]"#.to_owned();
    let spellings = ["null", "\"EdDSA\"", "{}", ""].map(str::to_owned);
    let around =
        [format!("\u{feff}{object}"), format!("{object}{object}"), format!("{object}x"), format!("{object}\0")];
    for header in [array].into_iter().chain(spellings).chain(around) {
        world.ring.refuses(world.ed.sign(&header, &claims)).await;
    }
    let mut invalid = object.clone().into_bytes();
    invalid.splice(1..1, *b"\"a\xff\":1,");
    let header = b64(invalid);
    world.ring.refuses(sign_raw(&header, &b64(&claims), &world.ed.private, Algorithm::EdDSA)).await;
    world.ring.takes(world.ed.sign(&object, &claims)).await;
}

async fn a_token_that_names_no_key_of_the_ring(world: &World) {
    let claims = claims().to_string();
    world.ring.refuses(world.ed.sign(&world.ed.header_with(json!({ "kid": null })), &claims)).await;
    world.ring.refuses(world.good()).await;
    world.ring.takes(world.ed.sign(&world.ed.header().to_string(), &claims)).await;
}

async fn a_key_named_where_there_is_one_secret(world: &World) {
    for kid in ["k", "ed", "", "../secret", "/dev/null"] {
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": kid }).to_string();
        world.secret.refuses(signed_with_secret(&header, &claims().to_string())).await;
    }
    world.secret.takes(world.good()).await;
}
