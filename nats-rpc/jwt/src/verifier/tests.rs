//! The attacks on tokens. Each has an id and a valid token that differs in one detail.

use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::super::testing::{HEADER, NOW, at, claims, claims_with, config, raw_token, token};
use super::super::{JwtGuard, JwtRejection, UserClaims};

fn verify(token: &str) -> Result<(), JwtRejection> {
    JwtGuard::<UserClaims>::new(config()).unwrap().verify(token).map(drop)
}

fn verify_at(now: u64, changes: Value) -> Result<(), JwtRejection> {
    let guard = JwtGuard::<UserClaims>::new(config().clock(move || at(now))).unwrap();
    guard.verify(&token(&claims_with(changes))).map(drop)
}

fn with_claims(changes: Value) -> Result<(), JwtRejection> {
    verify(&token(&claims_with(changes)))
}

fn with_header(header: &str) -> Result<(), JwtRejection> {
    verify(&raw_token(header, &claims().to_string()))
}

#[test]
fn a_good_token_is_taken() {
    let guard = JwtGuard::<UserClaims>::new(config()).unwrap();
    let claims = guard.verify(&token(&claims())).unwrap();
    assert_eq!(*claims, UserClaims::new("u1").with_sid("s1").with_roles(["user"]).with_scope("profile:read"));
}

#[test]
fn jwt_header_01_02_23_any_algorithm_but_the_keys_own_is_refused() {
    assert_eq!(with_header(HEADER), Ok(()));
    for alg in ["none", "None", "NONE", "nOnE", "none ", "", "hs256", "HS384", "HS512", "EdDSA", "eddsa", "RS256"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#);
        assert_eq!(with_header(&header), Err(JwtRejection::Algorithm), "{alg:?}");
    }
    for header in [r#"{"alg":null,"typ":"at+jwt"}"#, r#"{"typ":"at+jwt"}"#] {
        assert_eq!(with_header(header), Err(JwtRejection::Header), "{header}");
    }
    // `none` as it is usually sent: without a signature.
    let unsigned = raw_token(r#"{"alg":"none","typ":"at+jwt"}"#, &claims().to_string());
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    assert_eq!(verify(unsigned), Err(JwtRejection::Parts));
}

#[test]
fn jwt_header_10_a_key_id_is_a_short_string() {
    for kid in ["7", "[]", "{}", "null", "true"] {
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":{kid}}}"#);
        assert_eq!(with_header(&header), Err(JwtRejection::Header), "{kid}");
    }
    let huge = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{}"}}"#, "k".repeat(1 << 20));
    assert_eq!(with_header(&huge), Err(JwtRejection::TooLarge));
}

#[test]
fn a_token_that_names_a_key_is_refused_where_there_is_but_one_secret() {
    for kid in ["k1", "../../etc/passwd", "a b", "'; DROP", &"k".repeat(65), ""] {
        let header = json!({ "alg": "HS256", "typ": "at+jwt", "kid": kid }).to_string();
        assert_eq!(with_header(&header), Err(JwtRejection::KeyId), "{kid}");
    }
}

#[test]
fn jwt_header_14_16_17_members_that_are_not_known_are_refused() {
    for member in [
        r#""jwk":{"kty":"oct","k":"AAAA"}"#,
        r#""jku":"https://evil.example""#,
        r#""x5c":[]"#,
        r#""x5u":"https://evil.example""#,
        r#""crit":["exp"]"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":false"#,
        r#""b64":false"#,
        r#""zip":"DEF""#,
        r#""cty":"JWT""#,
    ] {
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt",{member}}}"#);
        assert_eq!(with_header(&header), Err(JwtRejection::Header), "{member}");
    }
}

#[test]
fn jwt_header_20_a_member_that_is_there_twice_is_refused() {
    for header in [
        r#"{"alg":"HS256","alg":"HS256","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","typ":"at+jwt"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","kid":"a","kid":"a"}"#,
        r#"{"alg":"HS256","typ":"at+jwt","kid":"a","\u006bid":"a"}"#,
    ] {
        assert_eq!(with_header(header), Err(JwtRejection::Header), "{header}");
    }
}

#[test]
fn jwt_header_22_the_type_is_a_media_type() {
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        assert_eq!(with_header(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), Ok(()), "{typ}");
    }
    for typ in ["JWT", "jwt", "rt+jwt", "gw+jwt", "at+jwt ", ""] {
        assert_eq!(with_header(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), Err(JwtRejection::Type), "{typ}");
    }
}

#[test]
fn jwt_header_19_jwt_signature_13_anything_but_three_parts_is_refused() {
    let hundred = vec!["a"; 100].join(".");
    for parts in ["", ".", "..", "a", "a.b", "a.b.", ".a.b", "a..b", "a.b.c.d", "a.b.c.d.e", hundred.as_str()] {
        assert_eq!(verify(parts), Err(JwtRejection::Parts), "{parts}");
    }
}

#[test]
fn jwt_signature_01_02_a_stripped_or_truncated_signature_is_refused() {
    let good = token(&claims());
    let signature = good.rfind('.').unwrap() + 1;
    assert_eq!(verify(&good), Ok(()));
    for end in signature + 1..good.len() {
        assert_eq!(verify(&good[..end]), Err(JwtRejection::Signature), "{end}");
    }
    assert_eq!(verify(&good[..signature]), Err(JwtRejection::Parts));
    assert_eq!(verify(&good[..signature - 1]), Err(JwtRejection::Parts));
}

#[test]
fn jwt_signature_04_the_unused_bits_of_the_last_character_must_be_zero() {
    let good = token(&claims());
    let (rest, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for other in alphabet.chars().filter(|other| !last.contains(*other)) {
        assert_eq!(verify(&format!("{rest}{other}")), Err(JwtRejection::Signature), "{other}");
    }
}

#[test]
fn jwt_signature_05_other_spellings_of_base64_are_refused() {
    let good = token(&claims());
    for bad in [format!("{good}="), format!("{good}\n"), format!(" {good}"), good.replacen('.', ".\n", 1)] {
        assert_eq!(verify(&bad), Err(JwtRejection::Charset));
    }
    let signature = good.rfind('.').unwrap();
    for alias in ["+", "/"] {
        let mut bad = good.clone();
        bad.replace_range(signature + 1..signature + 2, alias);
        assert_eq!(verify(&bad), Err(JwtRejection::Charset));
    }
}

#[test]
fn a_change_of_any_character_is_refused() {
    let good = token(&claims());
    for at in 0..good.len() {
        let mut bad = good.clone();
        let other = if &good[at..=at] == "A" { "B" } else { "A" };
        bad.replace_range(at..=at, other);
        assert!(verify(&bad).is_err(), "{at}");
    }
}

#[test]
fn another_secret_is_refused() {
    let key = EncodingKey::from_secret(b"another-secret-0123456789-abcdef");
    let forged = super::super::testing::sign(HEADER, &claims().to_string(), &key, Algorithm::HS256);
    assert_eq!(verify(&forged), Err(JwtRejection::Signature));
}

#[test]
fn tokens_over_4_kib_are_refused_unread() {
    let of_size = |pad: usize| token(&claims_with(json!({ "pad": "x".repeat(pad) })));
    let base = of_size(0).len();
    let guard = JwtGuard::<UserClaims>::new(config()).unwrap();
    for (size, expected) in
        [(4_096, Ok(())), (4_097, Err(JwtRejection::TooLarge)), (4_352, Err(JwtRejection::TooLarge))]
    {
        let token = (((size - base) * 3 / 4)..).map(of_size).find(|token| token.len() >= size).unwrap();
        assert_eq!(token.len(), size);
        assert_eq!(guard.verify(&token).map(drop), expected, "{size}");
        assert_eq!(guard.read_claims::<Value>(&token).map(drop), expected, "{size}");
    }
    assert_eq!(verify(&"a".repeat(1 << 20)), Err(JwtRejection::TooLarge));
}

#[test]
fn jwt_claims_01_02_a_token_holds_while_now_is_below_expiry_plus_leeway() {
    for (exp, expected) in [
        (NOW + 900, Ok(())),
        (NOW + 1, Ok(())),
        (NOW, Ok(())),
        (NOW - 4, Ok(())),
        (NOW - 5, Err(JwtRejection::Expired)),
        (NOW - 6, Err(JwtRejection::Expired)),
        (1, Err(JwtRejection::Expired)),
        (0, Err(JwtRejection::Expired)),
    ] {
        let iat = exp.saturating_sub(900);
        assert_eq!(with_claims(json!({ "exp": exp, "iat": iat })), expected, "exp = now {:+}", exp as i64 - NOW as i64);
    }
    // Without leeway the boundary is exactly `exp`.
    for (now, expected) in [(NOW + 899, Ok(())), (NOW + 900, Err(JwtRejection::Expired))] {
        let strict = config().leeway(std::time::Duration::ZERO).clock(move || at(now));
        let guard = JwtGuard::<UserClaims>::new(strict).unwrap();
        assert_eq!(guard.verify(&token(&claims())).map(drop), expected);
    }
}

#[test]
fn every_second_around_the_expiry_agrees_with_the_rule_cached_or_not() {
    let clock = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(NOW));
    let shared = std::sync::Arc::clone(&clock);
    let config = config().clock(move || at(shared.load(std::sync::atomic::Ordering::SeqCst)));
    let guard = JwtGuard::<UserClaims>::new(config).unwrap();
    let cached = token(&claims());
    guard.verify(&cached).unwrap();
    for now in NOW + 890..NOW + 920 {
        clock.store(now, std::sync::atomic::Ordering::SeqCst);
        let expected = if now < NOW + 900 + 5 { Ok(()) } else { Err(JwtRejection::Expired) };
        assert_eq!(guard.verify(&cached).map(drop), expected, "{now}");
        let fresh = token(&claims_with(json!({ "jti": now.to_string() })));
        assert_eq!(guard.verify(&fresh).map(drop), expected, "{now}");
    }
}

#[test]
fn exp_is_a_whole_number_of_seconds() {
    for exp in [json!(null), json!("1800000900"), json!(1_800_000_900.5), json!(1e15), json!(-1), json!([])] {
        assert_eq!(with_claims(json!({ "exp": exp })), Err(JwtRejection::Claims), "{exp}");
    }
    for exp in [u64::MAX, 253_402_300_800] {
        assert_eq!(with_claims(json!({ "exp": exp })), Err(JwtRejection::Lifetime), "{exp}");
    }
}

#[test]
fn jwt_claims_04_05_the_lifetime_is_positive_and_at_most_an_hour() {
    for (iat, exp, expected) in [
        (NOW, NOW + 3600, Ok(())),
        (NOW, NOW + 3601, Err(JwtRejection::Lifetime)),
        (NOW, NOW + 315_360_000, Err(JwtRejection::Lifetime)),
        (NOW + 1, NOW, Err(JwtRejection::Lifetime)),
        (NOW, NOW, Err(JwtRejection::Lifetime)),
        (0, NOW + 900, Err(JwtRejection::Lifetime)),
    ] {
        assert_eq!(with_claims(json!({ "iat": iat, "exp": exp })), expected, "{iat} {exp}");
    }
}

#[test]
fn jwt_claims_07_08_a_token_says_when_it_was_issued_and_not_in_the_future() {
    let within_skew = json!({ "iat": NOW + 5, "exp": NOW + 900 });
    assert_eq!(with_claims(within_skew), Ok(()));
    assert_eq!(with_claims(json!({ "iat": NOW + 6, "exp": NOW + 900 })), Err(JwtRejection::IssuedAt));
    assert_eq!(with_claims(json!({ "iat": NOW + 3600, "exp": NOW + 4500 })), Err(JwtRejection::IssuedAt));
    assert_eq!(with_claims(json!({ "iat": null })), Err(JwtRejection::IssuedAt));
    assert_eq!(with_claims(json!({ "iat": "now" })), Err(JwtRejection::Claims));
}

#[test]
fn a_token_is_not_taken_before_its_time() {
    for (nbf, expected) in [(NOW + 5, Ok(())), (NOW + 6, Err(JwtRejection::NotYetValid))] {
        assert_eq!(with_claims(json!({ "nbf": nbf })), expected);
    }
    assert_eq!(with_claims(json!({ "nbf": "soon" })), Err(JwtRejection::Claims));
    assert_eq!(verify_at(NOW - 3600, json!({})), Err(JwtRejection::IssuedAt));
}

#[test]
fn jwt_claims_10_the_issuer_is_one_exact_string() {
    for iss in ["nats-rpc-auth/", "NATS-RPC-AUTH", "nats-rpc-aut", "evil", ""] {
        assert_eq!(with_claims(json!({ "iss": iss })), Err(JwtRejection::Issuer), "{iss}");
    }
    assert_eq!(with_claims(json!({ "iss": null })), Err(JwtRejection::Issuer));
    for iss in [json!(1), json!(["evil", "nats-rpc-auth"]), json!(["nats-rpc-auth"])] {
        assert_eq!(with_claims(json!({ "iss": iss })), Err(JwtRejection::Claims), "{iss}");
    }
}

#[test]
fn jwt_claims_11_we_are_among_the_audience() {
    for aud in [json!("nats-rpc"), json!(["nats-rpc"]), json!(["other", "nats-rpc"])] {
        assert_eq!(with_claims(json!({ "aud": aud })), Ok(()), "{aud}");
    }
    for aud in [json!(null), json!([]), json!(["other"]), json!("nats-rp"), json!("nats-rpc2"), json!("")] {
        assert_eq!(with_claims(json!({ "aud": aud })), Err(JwtRejection::Audience), "{aud}");
    }
    for aud in [json!(1), json!([1, "nats-rpc"]), json!({ "0": "nats-rpc" }), json!(vec!["nats-rpc"; 17])] {
        assert_eq!(with_claims(json!({ "aud": aud })), Err(JwtRejection::Claims), "{aud}");
    }
    assert_eq!(with_claims(json!({ "aud": vec!["nats-rpc"; 10_000] })), Err(JwtRejection::TooLarge));
}

#[test]
fn jwt_claims_13_the_subject_can_be_somebodys() {
    for sub in ["a.>", "*", "x y", "\u{202e}ada", "ü"] {
        assert_eq!(with_claims(json!({ "sub": sub })), Ok(()), "{sub:?}");
    }
    for sub in ["", "a\0", "a\nb", &"a".repeat(257)] {
        assert_eq!(with_claims(json!({ "sub": sub })), Err(JwtRejection::Subject), "{sub:?}");
    }
    for sub in [json!(null), json!(1), json!(["u1"])] {
        assert_eq!(with_claims(json!({ "sub": sub })), Err(JwtRejection::Claims), "{sub}");
    }
}

#[test]
fn jwt_claims_14_a_subject_arrives_byte_for_byte() {
    let guard = JwtGuard::<UserClaims>::new(config()).unwrap();
    for sub in ["a.>", "e\u{301}", "\u{e9}", "\u{202e}x"] {
        assert_eq!(guard.verify(&token(&claims_with(json!({ "sub": sub })))).unwrap().sub, sub);
    }
}

#[test]
fn jwt_claims_16_a_token_has_an_id() {
    assert_eq!(with_claims(json!({ "jti": null })), Err(JwtRejection::Id));
    for id in ["", "a b", "a\n", "é", &"j".repeat(65)] {
        assert_eq!(with_claims(json!({ "jti": id })), Err(JwtRejection::Id), "{id:?}");
        assert_eq!(with_claims(json!({ "sid": id })), Err(JwtRejection::Id), "{id:?}");
    }
    assert_eq!(with_claims(json!({ "jti": "j".repeat(64) })), Ok(()));
    assert_eq!(with_claims(json!({ "sid": null })), Ok(()));
    // Not one-time: the same token serves many requests.
    let guard = JwtGuard::<UserClaims>::new(config()).unwrap();
    let same = token(&claims());
    assert!(guard.verify(&same).is_ok() && guard.verify(&same).is_ok());
}

#[test]
fn jwt_claims_17_depth_does_not_overflow_the_stack() {
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    let payload = claims().to_string().replacen('{', &format!(r#"{{"x":{deep},"#), 1);
    assert_eq!(verify(&raw_token(HEADER, &payload)), Ok(()));
    let deep = format!("{}{}", "[".repeat(3_000), "]".repeat(3_000));
    let payload = claims().to_string().replacen('{', &format!(r#"{{"x":{deep},"#), 1);
    assert_eq!(verify(&raw_token(HEADER, &payload)), Err(JwtRejection::TooLarge));
}

#[test]
fn jwt_claims_19_claims_are_typed() {
    for changes in [
        json!({ "roles": "admin" }),
        json!({ "roles": { "admin": true } }),
        json!({ "roles": ["admin", 1] }),
        json!({ "scope": ["profile:read"] }),
        json!({ "scope": true }),
    ] {
        assert_eq!(with_claims(changes.clone()), Err(JwtRejection::CustomClaims), "{changes}");
    }
    assert_eq!(with_claims(json!({ "roles": null, "scope": null })), Ok(()));
    assert_eq!(with_claims(json!({ "ep": "0" })), Err(JwtRejection::Claims));
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    for (claim, refused) in [
        (r#""sub":"u1""#, JwtRejection::Claims),
        (r#""exp":1800000900"#, JwtRejection::Claims),
        (r#""iss":"nats-rpc-auth""#, JwtRejection::Claims),
        (r#""\u0073ub":"u1""#, JwtRejection::Claims),
        (r#""roles":["admin"]"#, JwtRejection::CustomClaims),
    ] {
        let payload = claims().to_string().replacen('{', &format!("{{{claim},"), 1);
        assert_eq!(verify(&raw_token(HEADER, &payload)), Err(refused), "{claim}");
    }
}

#[test]
fn a_payload_that_is_no_object_is_refused() {
    for payload in ["", "null", "[]", r#"["nats-rpc-auth","nats-rpc","u1",1800000900]"#, "{", "\u{feff}{}"] {
        assert_eq!(
            verify(&raw_token(HEADER, payload)),
            Err(if payload.is_empty() { JwtRejection::Parts } else { JwtRejection::Claims }),
            "{payload}"
        );
    }
}

#[test]
fn jwt_claims_22_a_refresh_token_is_no_access_token() {
    assert_eq!(verify("nrt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), Err(JwtRejection::Parts));
    assert_eq!(with_header(r#"{"alg":"HS256","typ":"rt+jwt"}"#), Err(JwtRejection::Type));
}
